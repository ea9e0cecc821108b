"""The parts of a running service, and what its routes do with them."""

import os
import time

import numpy as np

from dah_tf import codes as packed
from dah_tf.errors import UserError
from dah_tf.gallery import answers
from dah_tf.index import ItemNotFoundError, WrongModelError
from dah_tf.index.reranking import rerank
from dah_tf.web import access, bodies, encoders, problems
from dah_tf.web.catalog import Catalog
from dah_tf.web.keys import Keys
from dah_tf.web.metrics import Metrics
from dah_tf.web.pictures import Pictures
from dah_tf.web.pipeline import Budget, Pipeline, Pool
from dah_tf.web.settings import KEY_BYTES, LABEL_BYTES
from dah_tf.web.uploads import Uploads


class Service:
    """Everything that requests share.

    Args:
        settings: `Settings`.
        encoder: `encoders.Local` or `encoders.Remote`.
        say: function that gets a line of text for the log.

    Attributes:
        settings, encoder, keys, rates, metrics, bodies, pipeline, thumbnails, catalog, pictures,
            uploads: the parts; `keys` and `uploads` are None if there are none.
        has_images: bool, whether there is a folder of images.

    Raises:
        UserError: a setting is wrong, or the model does not fit the index.
    """

    def __init__(self, settings, encoder, say=print):
        self.settings, self.encoder, self.say = settings, encoder, say
        self.keys = Keys(settings.api_key_file) if settings.api_key_file else None
        self.rates = access.Rates(settings.rate)
        self.metrics = Metrics()
        self.bodies = bodies.Bodies(settings.body_seconds)
        self.catalog = Catalog(settings.index, settings.backend, say)
        store = self.catalog.current
        try:
            if reason := encoders.check(encoder, store):
                raise UserError(
                    f"{reason}; encode again: python -m dah_tf.search rebuild "
                    f"--index={settings.index} --model={settings.model or 'MODEL'}"
                )
            start = settings.root or settings.images or store.root
            self.uploads = Uploads(settings.uploads, start) if settings.uploads else None
        except BaseException:
            self.catalog.close()
            raise
        folders = [start] if start else []
        self.has_images = bool(start)
        if self.uploads:
            self.uploads.recover(self._is_stored)
            folders.append(self.uploads.folder)
        budget = Budget()
        self.pipeline = Pipeline(encoder, budget, settings.max_pixels, settings.queue, self.metrics)
        self.pictures = Pictures(
            start and os.path.abspath(start), folders, budget, settings.max_pixels
        )
        self.thumbnails = Pool(encoders.threads(), "thumbnails", 4 * settings.queue)
        self.metrics.gauge(
            "queue_length", "Images that wait or are encoded.", lambda: self.pipeline.length
        )
        self.metrics.gauge("index_items", "Items.", lambda: len(self.catalog.current))

    def close(self):
        """Finishes what runs, and closes everything."""
        self.pipeline.close()
        self.thumbnails.close()
        self.catalog.close()
        if self.uploads:
            self.uploads.close()

    def warm_up(self):
        """Searches once, so that no client waits for what is loaded at the first search."""
        self.encoder.warm_up()
        store = self.catalog.current
        store.search(np.zeros((1, -(-store.bits // 8)), np.uint8), 1)

    def not_ready(self):
        """Returns one line that says why the service cannot answer, or None."""
        return self.catalog.fault or encoders.check(self.encoder, self.catalog.current)

    def audit(self, caller, what):
        """Writes a line about a change to the log."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.say(f"{now} {what} by {caller.name} from {caller.address}")

    def code(self, text, bits):
        """Returns the packed code of a hexadecimal text: uint8 array of shape `(1, bytes)`.

        Raises:
            Problem: 422 if it is not a code of the index.
        """
        try:
            return packed.check(np.frombuffer(bytes.fromhex(text), np.uint8)[None], bits)
        except ValueError:
            raise problems.Problem(
                422,
                "wrong_code",
                f"a code of {bits} bits has {2 * -(-bits // 8)} hexadecimal digits, of which the "
                "bits at the end are 0",
            ) from None

    def _is_stored(self, key):
        store = self.catalog.current
        nothing = np.zeros((1, -(-store.bits // 8)), np.uint8)
        found = store.radius(nothing, store.bits, key_prefix=key).ids
        return key in store.describe(found)[0]


def find(store, query, options, fingerprint, span, times, start):
    """Answers a search, in a thread.

    Args:
        store: `Store`.
        query: dict of `type`, and of `code` and `values` (arrays), or of `id`.
        options: `schemas.Options`.
        fingerprint: str, the fingerprint of the model that made the code, or None.
        span: the lowest and the highest of the values.
        times: dict of the seconds of earlier stages.
        start: float, the time of `time.monotonic` at which the request began.

    Returns:
        The dict of an answer, and the seconds of the search.

    Raises:
        ItemNotFoundError, WrongModelError, UserError: as in `Store`.
    """
    began = time.monotonic()
    about = {}
    if query["type"] == "id":
        code = store.codes([query["id"]])
        (key,), (label,) = store.describe([query["id"]])
        about = {"id": query["id"], "key": key, "label": label}
    else:
        code = query["code"]
        if code.shape[1] != -(-store.bits // 8):
            raise WrongModelError("the index has codes of another length now")
    filters = {"label": options.label, "key_prefix": options.key_prefix}
    found = store.search(
        code, max(options.k, options.rerank), options.max_distance, **filters,
        fingerprint=fingerprint,
    )  # fmt: skip
    if options.rerank:
        values = query.get("values")
        if values is None:  # the bits are the values, by which the order is that of Hamming
            values, span = packed.unpack(code, store.bits), (0, 1)
        scores, distances, ids = rerank(store, values, found, options.k, span)
        found = (distances[0], ids[0], scores[0])
    else:
        found = (found.distances[0], found.ids[0])
    shown = int((found[1] >= 0).sum())
    last = answers.last_distances([found])
    # If fewer items were found than asked for, all of them are shown.
    totals = store.count_at(code, last, **filters) if shown == options.k else [0]
    (described,) = answers.describe(store, [about], [found], totals)
    neighbours = described["neighbours"]
    for each, row in zip(neighbours, store.codes(found[1][:shown]), strict=True):
        each["code"] = row.tobytes().hex()
    now = time.monotonic()
    stages = {name: times.get(name, 0.0) for name in ("decode", "queue", "encode")}
    stages |= {"search": now - began, "total": now - start}
    return {
        "query": {"type": query["type"], "code": code[0].tobytes().hex(), **about},
        "neighbours": neighbours,
        "bits": store.bits,
        "last_distance": int(last[0]) if shown else None,
        "shown": described["shown"],
        "at_last_distance": described["at_last_distance"],
        "changes": store.stats()["changes"],
        "latency_ms": {name: round(1000 * value, 3) for name, value in stages.items()},
    }, now - began


def item(store, number):
    """Returns the dict of an item, in a thread.

    Raises:
        ItemNotFoundError: there is no such item.
    """
    code = store.codes([number])[0]
    (key,), (label,) = store.describe([number])
    return {
        "id": number,
        "key": key,
        "label": label,
        "code": code.tobytes().hex(),
        "bits": store.bits,
    }


def check_texts(keys, labels):
    """Refuses keys and labels that an index cannot store.

    Raises:
        Problem: 422.
    """
    for name, texts, limit in (("key", keys, KEY_BYTES), ("label", labels, LABEL_BYTES)):
        for text in texts:
            try:
                size = len(text.encode())
            except UnicodeEncodeError:
                raise problems.Problem(
                    422, f"wrong_{name}", f"a {name} is not valid text"
                ) from None
            if size > limit:
                raise problems.Problem(
                    422, f"wrong_{name}", f"a {name} has more than {limit:,} bytes"
                )


def refused(error):
    """Returns the `Problem` of an error of an index."""
    if isinstance(error, ItemNotFoundError):
        return problems.Problem(404, "no_item", "there is no such item")
    if isinstance(error, WrongModelError):
        return problems.Problem(
            409, "wrong_model", "the model of the service did not make the codes of the index"
        )
    if isinstance(error.__cause__, OSError):
        full = error.__cause__.errno == 28
        status, code = (507, "disk_full") if full else (503, "index_failed")
        return problems.Problem(
            status, code, f"the index cannot be changed: {error.__cause__.strerror}"
        )
    return problems.Problem(422, "refused", str(error))
