"""What is said to a Milvus server: connection, collections, requests of bounded size, errors.

Nothing here knows what an index is. pymilvus is imported when a connection is made.
"""

import contextlib
import importlib.util
import logging
import os
import pathlib

import numpy as np

from dah_tf.errors import UserError, shortened

CONNECT, REQUEST, LOAD = 5, 60, 600  # seconds
# Items in one request. A message holds 64 MB at most; these take 44 MB where every string is as
# long as it may be. Milvus returns 16,384 items to a query at most.
BATCH = 8192
KEY_BYTES, LABEL_BYTES = 4096, 1024
FACTS_BYTES = 65535
NO_COLLECTION, NO_DATABASE, NO_CONNECTION = 100, 800, 2


class Gone(UserError):
    """A collection that is not there, or not any more."""


class Server:
    """A connection. Every method raises `UserError`, `Gone` where a collection is not there.

    Args:
        location: `names.Location`.
        make: bool; makes Milvus Lite's file where there is none.

    Raises:
        UserError: pymilvus is missing, or the server cannot be reached or refuses.
    """

    def __init__(self, location, make=False):
        for package in ("pymilvus", *(["milvus_lite"] if location.lite else [])):
            if not importlib.util.find_spec(package):
                raise UserError("this needs Milvus: python -m pip install 'dah_tf[milvus]'")
        import pymilvus

        # It logs a traceback for every error that it raises: ours are one line.
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
        """Ends the connection; Milvus Lite's server ends with the process."""
        self.client.close()

    @contextlib.contextmanager
    def _telling(self):
        """Turns what pymilvus raises into one line."""
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
        # It may repeat what was sent, such as a filter with a key of any length.
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
                f"cannot open {uri}: another process has it open, or it is no file of Milvus Lite"
            )
        if code == NO_CONNECTION or "connecting" in low or "unavailable" in low:
            return UserError(f"cannot reach Milvus at {uri}; check the address, and that it runs")
        if "deadline" in low or "timeout" in low:
            return UserError(f"Milvus at {uri} did not answer in time; try again")
        return UserError(f"Milvus at {uri} says: {message}")

    def description(self, name):
        """A collection's description, or None where there is no such collection."""
        with contextlib.suppress(Gone):
            return self.describe(name)["description"]
        return None

    def describe(self, name):
        """What Milvus knows of a collection: dict with `description`, `fields` and more."""
        with self._telling():
            return self.client.describe_collection(name, timeout=REQUEST)

    def create(self, name, description, width, strings, lists=None):
        """Makes a collection of `id`, `code` and strings, ready for searching.

        Args:
            name: str.
            description: str.
            width: int, bytes of a code.
            strings: dict of a field's name to its greatest length in bytes.
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
            # Strong: what a writer was told is done, every reader sees. The default would show
            # it seconds later, and an id given twice would not be noticed.
            self.client.create_collection(
                name, schema=schema, consistency_level="Strong", timeout=REQUEST
            )
        self.make_index(name, lists)

    def make_index(self, name, lists=None):
        """Makes the index of a collection that has none, and loads it.

        Args:
            name: str.
            lists: int, clusters of a BIN_IVF_FLAT; None is BIN_FLAT, which is exact.
        """
        params = self.client.prepare_index_params()
        kind, more = ("BIN_IVF_FLAT", {"nlist": lists}) if lists else ("BIN_FLAT", {})
        params.add_index("code", index_type=kind, metric_type="HAMMING", params=more)
        with self._telling():
            self.client.create_index(name, params, timeout=REQUEST, sync=False)
        self.load(name)

    def index_type(self, name):
        """`BIN_FLAT`, `BIN_IVF_FLAT`, or None where a collection has no index."""
        with self._telling():
            if "code" not in self.client.list_indexes(name):
                return None
            return self.client.describe_index(name, "code", timeout=REQUEST)["index_type"]

    def drop_index(self, name):
        """Takes a collection's index away; it cannot be searched until it has another."""
        with self._telling():
            self.client.release_collection(name, timeout=REQUEST)
            self.client.drop_index(name, "code", timeout=REQUEST)

    def flush(self, name):
        """Seals the rows that a collection is being filled with: only then they are indexed."""
        with self._telling():
            self.client.flush(name, timeout=LOAD)

    def is_indexed(self, name, count):
        """Whether the index has every row that was sealed, and these are so many at least."""
        with self._telling():
            found = self.client.describe_index(name, "code", timeout=REQUEST)
        rows, indexed, pending = (
            int(found.get(key) or 0) for key in ("total_rows", "indexed_rows", "pending_index_rows")
        )
        return not pending and indexed >= rows >= count

    def refresh(self, name):
        """Lets the nodes that search take up what was sealed and indexed since the loading."""
        with self._telling():
            self.client.refresh_load(name, timeout=LOAD)

    def compacting(self, name):
        """Asks a server to give the space of deleted rows free; Milvus Lite cannot.

        Yields:
            bool, again and again: whether it is done.
        """
        if self.lite:
            yield True
            return
        with self._telling():
            job = self.client.compact(name, timeout=REQUEST)
        while job > 0:  # else there is nothing to be done
            with self._telling():
                state = self.client.get_compaction_state(job, timeout=REQUEST)
            yield state != "Executing"

    def load(self, name):
        """Makes a collection ready for searching, if it is not."""
        with self._telling():
            self.client.load_collection(name, timeout=LOAD)

    def drop(self, name):
        """Deletes a collection, if it is there."""
        with self._telling():
            self.client.drop_collection(name, timeout=REQUEST)

    def upsert(self, name, rows):
        """Writes rows in batches; a row with an id that is there replaces it.

        Unlike an insertion, a batch that pymilvus sends again after a lost answer stays single.

        Args:
            name: str.
            rows: iterable of dicts of every field.
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
        """Those rows with given ids that are there, in any order: iterable of dicts."""
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH].tolist()
            yield from self.some(name, f"id in {batch}", fields, BATCH)

    def some(self, name, expression, fields, limit):
        """Up to `limit` rows that fit a filter expression: list of dicts."""
        with self._telling():
            return self.client.query(
                name, filter=expression, output_fields=fields, limit=limit, timeout=REQUEST
            )

    def every(self, name, fields):
        """Every row, in the order of ids: iterable of lists of dicts."""
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
        """Number of rows, which are not deleted."""
        with self._telling():
            found = self.client.query(name, output_fields=["count(*)"], timeout=REQUEST)
        return int(found[0]["count(*)"])

    def search(self, name, queries, limit, expression="", params=None):
        """Nearest rows of each query.

        Args:
            name: str.
            queries: uint8 array of shape `(q, width)`, of the collection's width.
            limit: int, 1 to 16,384.
            expression: str, a filter; "" for none.
            params: dict of search parameters.

        Returns:
            List of q pairs of arrays, int32 distances and int64 ids, nearest first.
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
