"""Communication with a Milvus server: connection, collections, limited requests, errors.

This module does not know what an index is. pymilvus is imported when a connection is made.
"""

import contextlib
import importlib.util
import logging
import os
import pathlib

import numpy as np

from dah_tf.errors import UserError, shortened

CONNECT, REQUEST, LOAD = 5, 60, 600  # seconds
# The number of items in a request. A message may have 64 MB; these items take 44 MB if all strings
# have their largest length. Milvus returns at most 16,384 items to a query.
BATCH = 8192
KEY_BYTES, LABEL_BYTES = 4096, 1024
FACTS_BYTES = 65535
NO_COLLECTION, NO_DATABASE, NO_CONNECTION = 100, 800, 2


class Gone(UserError):
    """A collection does not exist, or not any more."""


class Server:
    """A connection to a server.

    Every method raises `UserError`, or `Gone` if a collection does not exist.

    Args:
        location: `names.Location`.
        make: bool, whether to make the file of Milvus Lite if it does not exist.

    Raises:
        UserError: pymilvus is missing, or the server cannot be reached or refuses the request.
    """

    def __init__(self, location, make=False):
        for package in ("pymilvus", *(["milvus_lite"] if location.lite else [])):
            if not importlib.util.find_spec(package):
                raise UserError(f"{package} is missing: run python -m pip install 'dah_tf[milvus]'")
        import pymilvus

        # pymilvus logs a traceback for every error. Our errors are one line.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self.location, self.lite, self._pymilvus = location, location.lite, pymilvus
        if self.lite:
            file = pathlib.Path(location.uri)
            if make:
                try:
                    file.absolute().parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise UserError(f"cannot write {file}: {error.strerror}") from None
            elif not file.exists():
                raise Gone(f"{file} does not exist")
        with self._telling():
            self.client = pymilvus.MilvusClient(
                uri=location.uri,
                db_name=location.database,
                token="" if self.lite else os.environ.get("MILVUS_TOKEN", ""),
                timeout=CONNECT,
            )

    def close(self):
        """Closes the connection. The server of Milvus Lite ends with the process."""
        self.client.close()

    @contextlib.contextmanager
    def _telling(self):
        """Turns the errors of pymilvus into messages of one line."""
        import grpc

        try:
            yield
        except self._pymilvus.MilvusException as error:
            raise self._told(error.code, error.message) from None
        except grpc.RpcError as error:
            raise self._told(error.code(), f"{error.code().name}: {error.details()}") from None

    def _told(self, code, message):
        message = " ".join(str(message).split())
        uri, low = self.location.uri, message.lower()
        # The message may repeat the request, such as a filter with a long key.
        message = shortened(message, 300)
        if code == NO_COLLECTION or "can't find collection" in low:
            return Gone(f"{uri}: {message}")
        if code == NO_DATABASE or "database not found" in low:
            return UserError(f"Milvus at {uri} has no database {self.location.database}")
        if "unauthenticated" in low or "auth check failure" in low or "permission" in low:
            return UserError(
                f"Milvus at {uri} refuses this user; set MILVUS_TOKEN=USER:PASSWORD, or the key"
            )
        if self.lite and "open local milvus failed" in low:
            return UserError(
                f"cannot open {uri}: another process has it open, or it is not a Milvus Lite file"
            )
        if code == NO_CONNECTION or "connecting" in low or "unavailable" in low:
            return UserError(
                f"cannot reach Milvus at {uri}; check the address, and whether Milvus is running"
            )
        if "deadline" in low or "timeout" in low:
            return UserError(f"Milvus at {uri} did not answer in time; try again")
        return UserError(f"Milvus at {uri} says: {message}")

    def description(self, name):
        """Returns the description of a collection, or None if there is no such collection."""
        with contextlib.suppress(Gone):
            return self.describe(name)["description"]
        return None

    def describe(self, name):
        """Returns the facts about a collection: a dict with `description`, `fields` and more."""
        with self._telling():
            return self.client.describe_collection(name, timeout=REQUEST)

    def create(self, name, description, width, strings, lists=None):
        """Makes a collection with `id`, `code` and strings, which can be searched at once.

        Args:
            name: str.
            description: str.
            width: int, the bytes of a code.
            strings: dict of the name of a field to its largest length in bytes.
            lists: as in `make_index`.
        """
        kinds = self._pymilvus.DataType
        schema = self.client.create_schema(
            auto_id=False, enable_dynamic_field=False, description=description
        )
        schema.add_field("id", kinds.INT64, is_primary=True)
        schema.add_field("code", kinds.BINARY_VECTOR, dim=8 * width)
        for field, length in strings.items():
            schema.add_field(field, kinds.VARCHAR, max_length=length)
        schema.add_field("change", kinds.INT64)
        with self._telling():
            # With "Strong", every reader sees a change as soon as its writer knows that it is
            # done. By default it would be seen seconds later, so that an id could be given twice.
            self.client.create_collection(
                name, schema=schema, consistency_level="Strong", timeout=REQUEST
            )
        self.make_index(name, lists)

    def make_index(self, name, lists=None):
        """Makes the index of a collection that has none, and loads the collection.

        Args:
            name: str.
            lists: int, the number of clusters of a BIN_IVF_FLAT. None is BIN_FLAT, which is exact.
        """
        params = self.client.prepare_index_params()
        kind, more = ("BIN_IVF_FLAT", {"nlist": lists}) if lists else ("BIN_FLAT", {})
        params.add_index("code", index_type=kind, metric_type="HAMMING", params=more)
        with self._telling():
            self.client.create_index(name, params, timeout=REQUEST, sync=False)
        self.load(name)

    def index_type(self, name):
        """Returns `BIN_FLAT`, `BIN_IVF_FLAT`, or None if a collection has no index."""
        with self._telling():
            if "code" not in self.client.list_indexes(name):
                return None
            return self.client.describe_index(name, "code", timeout=REQUEST)["index_type"]

    def drop_index(self, name):
        """Drops the index of a collection, which cannot be searched until it has another one."""
        with self._telling():
            self.client.release_collection(name, timeout=REQUEST)
            self.client.drop_index(name, "code", timeout=REQUEST)

    def flush(self, name):
        """Seals the rows of a collection. Milvus indexes only sealed rows."""
        with self._telling():
            self.client.flush(name, timeout=LOAD)

    def is_indexed(self, name, count):
        """Says whether every sealed row is indexed, and whether there are at least `count` rows."""
        with self._telling():
            found = self.client.describe_index(name, "code", timeout=REQUEST)
        rows, indexed, pending = (
            int(found.get(key) or 0) for key in ("total_rows", "indexed_rows", "pending_index_rows")
        )
        return not pending and indexed >= rows >= count

    def refresh(self, name):
        """Makes the search nodes load what was sealed and indexed since the last loading."""
        with self._telling():
            self.client.refresh_load(name, timeout=LOAD)

    def compacting(self, name):
        """Asks a server to release the space of deleted rows. Milvus Lite cannot do this.

        Yields:
            bool, repeatedly, whether the server has finished.
        """
        if self.lite:
            yield True
            return
        with self._telling():
            job = self.client.compact(name, timeout=REQUEST)
        while job > 0:  # otherwise there is nothing to do
            with self._telling():
                state = self.client.get_compaction_state(job, timeout=REQUEST)
            yield state != "Executing"

    def load(self, name):
        """Loads a collection for searching, if it is not loaded."""
        with self._telling():
            self.client.load_collection(name, timeout=LOAD)

    def drop(self, name):
        """Deletes a collection, if it exists."""
        with self._telling():
            self.client.drop_collection(name, timeout=REQUEST)

    def upsert(self, name, rows):
        """Writes rows in batches. A row replaces an existing row with the same id.

        If an answer is lost, pymilvus sends the batch again. Unlike an insertion, this does not
        write the rows twice.

        Args:
            name: str.
            rows: iterable of dicts with all fields.
        """
        batch = []
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                self._upsert(name, batch)
                batch = []
        if batch:
            self._upsert(name, batch)

    def _upsert(self, name, batch):
        with self._telling():
            self.client.upsert(name, batch, timeout=REQUEST)

    def delete(self, name, ids):
        """Deletes rows by id, in batches."""
        for start in range(0, len(ids), BATCH):
            with self._telling():
                batch = ids[start : start + BATCH].tolist()
                self.client.delete(name, ids=batch, timeout=REQUEST)

    def delete_where(self, name, expression):
        """Deletes rows by a filter expression."""
        with self._telling():
            self.client.delete(name, filter=expression, timeout=LOAD)

    def rows(self, name, ids, fields):
        """Yields the existing rows with the given ids, in any order, as dicts."""
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH].tolist()
            yield from self.some(name, f"id in {batch}", fields, BATCH)

    def some(self, name, expression, fields, limit):
        """Returns up to `limit` rows that match a filter expression: a list of dicts."""
        with self._telling():
            return self.client.query(
                name, filter=expression, output_fields=fields, limit=limit, timeout=REQUEST
            )

    def every(self, name, fields):
        """Yields all rows in the order of their ids, as lists of dicts."""
        with self._telling():
            pages = self.client.query_iterator(
                name, batch_size=BATCH, filter="id >= 0", output_fields=fields, timeout=REQUEST
            )
        try:
            while True:
                with self._telling():
                    page = pages.next()
                if not page:
                    return
                yield page
        finally:
            pages.close()

    def count(self, name):
        """Returns the number of rows that are not deleted."""
        with self._telling():
            found = self.client.query(name, output_fields=["count(*)"], timeout=REQUEST)
        return int(found[0]["count(*)"])

    def search(self, name, queries, limit, expression="", params=None):
        """Finds the nearest rows of each query.

        Args:
            name: str.
            queries: uint8 array of shape `(q, width)`, with the width of the collection.
            limit: int, 1 to 16,384.
            expression: str, a filter expression, or "" for none.
            params: dict of search parameters.

        Returns:
            List of q pairs of arrays, int32 distances and int64 ids, with the nearest first.
        """
        with self._telling():
            found = self.client.search(
                name,
                [query.tobytes() for query in queries],
                anns_field="code",
                limit=limit,
                filter=expression,
                search_params={"metric_type": "HAMMING", "params": params or {}},
                timeout=REQUEST,
            )
        return [
            (np.asarray(hits.distances, np.int32), np.asarray(hits.ids, np.int64)) for hits in found
        ]
