"""Measures a trained model under a protocol: quality, reference points, and speed."""

import time

import numpy as np

from dah_tf import codes, metrics
from dah_tf.evaluation import reference_points, retrieval
from dah_tf.files import durable

PART = 8192
EXAMPLES, NEIGHBOURS = 10, 10


def evaluate(model, dataset, protocol, mirror=False, trained=None, described=None):
    """Measures the retrieval quality of a model under a protocol, and reference points.

    Args:
        model: `HashModel`.
        dataset: `data.Dataset`.
        protocol: `data.Protocol`.
        mirror: bool, whether a code is made from an image and its mirror image together.
        trained: ints, the classes on which the classifier was trained. None is those of the
            protocol's training images.
        described: float array of shape `(n, d)`, the backbone's features of all images of the data
            set, where they are known. They are not those of mirrored images.

    Returns:
        `(result, pictures)`. `result` is the dict from `retrieval.evaluate` with further entries:
        `accuracy` of the classifier on the queries, `margin`, `references`, `mirror`, `model`,
        `method` and `data`. `pictures` is the dict of arrays from `examples`.
    """
    features = len(protocol.database) * model.backbone.output_shape[-1] <= reference_points.FLOATS
    described = None if mirror else described
    query, _ = outputs(model, dataset, protocol.query, mirror, features, described)
    database, margin = outputs(model, dataset, protocol.database, mirror, features, described)
    labels = dataset.labels[protocol.query], dataset.labels[protocol.database]
    result = retrieval.evaluate(
        query["codes"],
        labels[0],
        database["codes"],
        labels[1],
        model.bits,
        protocol=protocol.summary(),
        class_names=list(dataset.class_names),
    )
    if trained is None:
        trained = dataset.labels[protocol.train]
    if not dataset.multi_label and np.isin(labels[0], trained).all():
        # The classifier cannot name classes on which it was not trained.
        hits = query["classes"].argmax(axis=1) == labels[0]
        result["accuracy"] = float(hits.mean())
    result["margin"] = margin
    result["references"] = reference_points.evaluate(
        query, labels[0], database, labels[1], model.bits
    )
    result["mirror"] = mirror
    result["model"] = {"fingerprint": model.fingerprint()}
    result["method"] = model.method.facts
    result["data"] = {"name": dataset.name, "fingerprint": dataset.fingerprint}
    return result, examples(dataset, protocol, query["codes"], database["codes"])


def outputs(model, dataset, indices, mirror, features=False, described=None):
    """Runs a model over images of a data set.

    Args:
        model: `HashModel`.
        dataset: `data.Dataset`.
        indices: int array of shape `(n,)`.
        mirror: bool, as in `HashModel.outputs`.
        features: bool, whether to keep the features of the backbone.

    Returns:
        `(answers, margin)`. `answers` is a dict of packed `codes`, `classes` (logits), and
        `features` or None. `margin` describes the distances of the hash values from 1/2: a dict of
        `edges` (from 0 to the largest distance that the hash head allows), the `share` of the
        values between two edges, and the `mean`.
    """
    lowest, highest = model.span
    largest = (highest - lowest) / 2
    edges = np.linspace(0.0, largest, 26)
    counts, total = np.zeros(25), 0.0
    parts = {"codes": [], "classes": [], "features": []}
    for first in range(0, len(indices), PART):
        rows = indices[first : first + PART]
        if described is None:
            answer = model.outputs(dataset.images.read(rows), mirror=mirror)
        else:
            answer = model.of_features(described[rows])
        parts["codes"].append(codes.pack(codes.binarize(answer["logits"])))
        parts["classes"].append(answer["classes"])
        if features:
            parts["features"].append(answer["features"])
        away = np.minimum(np.abs(answer["hash"] - 0.5), largest)
        counts += np.histogram(away, edges)[0]
        total += float(away.sum(dtype=np.float64))
    size = max(counts.sum(), 1.0)
    margin = {
        "edges": edges.round(3).tolist(),
        "share": (counts / size).tolist(),
        "mean": total / size,
    }
    return {k: np.concatenate(v) if v else None for k, v in parts.items()}, margin


def examples(dataset, protocol, query_codes, database_codes):
    """Shows some queries and their nearest neighbours (DAH, Figs. 7 and 8).

    The queries are spread evenly over the classes, and their results have no influence on the
    choice. Among items at the same distance, the first of the data set is shown.

    Args:
        dataset: `data.Dataset`.
        protocol: `data.Protocol`.
        query_codes, database_codes: packed codes of the queries and the database of the protocol.

    Returns:
        Dict of arrays: `query_images` uint8 `(q, h, w, channels)`, `neighbour_images` uint8
        `(q, 10, h, w, channels)`, `relevant` bool `(q, 10)`, `distances` int `(q, 10)`, and the
        names of the classes as str, `query_labels` `(q,)` and `neighbour_labels` `(q, 10)`.
    """
    labels = dataset.labels[protocol.query]
    first_class = labels if labels.ndim == 1 else labels.argmax(axis=1)
    by_class = np.argsort(first_class, kind="stable")
    count = min(EXAMPLES, len(by_class))
    chosen = by_class[np.linspace(0, len(by_class) - 1, count).astype(int)]
    distances = codes.hamming(query_codes[chosen], database_codes)
    order = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]
    found, queries = protocol.database[order], protocol.query[chosen]
    theirs = dataset.labels[protocol.database]
    relevant = metrics.relevant(labels[chosen], theirs)
    return {
        "query_images": dataset.images.read(queries),
        "neighbour_images": np.stack([dataset.images.read(row) for row in found]),
        "relevant": np.take_along_axis(relevant, order, axis=1),
        "distances": np.take_along_axis(distances, order, axis=1).astype(np.int64),
        "query_labels": _names(dataset, queries),
        "neighbour_labels": _names(dataset, found),
    }


def _names(dataset, indices):
    """Returns the names of the classes of images."""
    labels, names = dataset.labels[indices], np.array(list(dataset.class_names))
    if dataset.labels.ndim == 1:
        return names[labels]
    texts = [", ".join(names[row > 0]) for row in labels.reshape(-1, labels.shape[-1])]
    return np.array(texts).reshape(indices.shape)


def write_examples(path, arrays):
    """Writes `examples` to an `.npz` file in one step."""
    with durable.replacing(path) as file:
        np.savez_compressed(file, **arrays)


def encoding_time(model, dataset, indices, mirror=False, batches=(32, 128, 512)):
    """Measures the milliseconds for an image, from pixels to packed codes (DAH, Table 4).

    Args:
        model: `HashModel`.
        dataset: `data.Dataset`.
        indices: int array. At most the first 50,000 images are encoded, and at a batch size of 1
            at most the first 500.
        mirror: bool, as in `HashModel.encode`.
        batches: ints, batch sizes. The best of them is chosen on the first 2,000 images.

    Returns:
        Dict of `batch_1_ms`, `best_ms`, `best_batch`, `images` and `runtime`.
    """
    import keras

    indices = np.asarray(indices)[:50_000]
    few = dataset.images.read(indices[:2000])

    def seconds(pixels, batch):
        start = time.perf_counter()
        model.encode(pixels, batch, mirror)
        return time.perf_counter() - start

    for batch in (1, *batches):
        model.encode(few[:batch], batch, mirror)  # the first call compiles
    alone = seconds(few[:500], 1) / len(few[:500])
    best = min(batches, key=lambda batch: seconds(few, batch))
    rest = len(indices) % PART
    if rest < best:
        model.encode(few[:rest], best, mirror)  # the last part has another shape
    spent = sum(
        seconds(dataset.images.read(indices[first : first + PART]), best)
        for first in range(0, len(indices), PART)
    )
    return {
        "batch_1_ms": 1000 * alone,
        "best_ms": 1000 * spent / len(indices),
        "best_batch": best,
        "images": len(indices),
        "runtime": f"Keras, {keras.backend.backend()}, {model.backbone.output.dtype}",
    }
