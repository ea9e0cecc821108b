"""A trained model under a protocol: its codes' quality, what stands beside it, how fast it is."""

import time

import numpy as np

from dah_tf import codes, metrics
from dah_tf.evaluation import reference_points, retrieval
from dah_tf.files import durable

PART = 8192
EXAMPLES, NEIGHBOURS = 10, 10


def evaluate(model, dataset, protocol, mirror=False, trained=None):
    """Retrieval quality of a model under a protocol, with reference points.

    Args:
        model: `HashModel`.
        dataset: `data.Dataset`.
        protocol: `data.Protocol`.
        mirror: bool, codes from the image and its mirror image.
        trained: ints, the classes that the classifier was trained on; None: those of the
            protocol's training images.

    Returns:
        `(result, pictures)`: the dict from `evaluation.evaluate` with `accuracy` of the
        classifier on the queries, `margin`, `references`, `mirror`, `model`, `method` and `data`;
        and the arrays of example retrievals, see `examples`.
    """
    features = len(protocol.database) * model.backbone.output_shape[-1] <= reference_points.FLOATS
    query, _ = outputs(model, dataset, protocol.query, mirror, features)
    database, margin = outputs(model, dataset, protocol.database, mirror, features)
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
        # Of classes that the classifier never saw it can name none.
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


def outputs(model, dataset, indices, mirror, features=False):
    """A model's answers on images of a data set.

    Args:
        model: `HashModel`.
        dataset: `data.Dataset`.
        indices: int array of shape `(n,)`.
        mirror: bool, of `HashModel.outputs`.
        features: bool, whether to keep the backbone's.

    Returns:
        `(answers, margin)`: a dict of `codes`, packed, `classes`, logits, and `features` or None;
        and how far the hash values lie from 1/2: a dict of `edges` (from 0 to the largest that the
        hash head allows), `share` between them, and the `mean`.
    """
    lowest, highest = model.span
    largest = (highest - lowest) / 2
    edges = np.linspace(0.0, largest, 26)
    counts, total = np.zeros(25), 0.0
    parts = {"codes": [], "classes": [], "features": []}
    for first in range(0, len(indices), PART):
        pixels = dataset.images.read(indices[first : first + PART])
        answer = model.outputs(pixels, mirror=mirror)
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
    """Some queries and their nearest neighbours (DAH, Figs. 7 and 8).

    The queries are spread evenly over the classes, chosen without regard to how well they do;
    among items at the same distance the first of the data set is shown.

    Args:
        dataset: `data.Dataset`.
        protocol: `data.Protocol`.
        query_codes, database_codes: packed codes of the protocol's queries and database.

    Returns:
        Dict of arrays: `query_images` uint8 `(q, h, w, channels)`, `neighbour_images` uint8
        `(q, 10, h, w, channels)`, `relevant` bool `(q, 10)`, `distances` int `(q, 10)`, and the
        classes' names, str `query_labels` `(q,)` and `neighbour_labels` `(q, 10)`.
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
    """The classes of images, as text."""
    labels, names = dataset.labels[indices], np.array(list(dataset.class_names))
    if dataset.labels.ndim == 1:
        return names[labels]
    texts = [", ".join(names[row > 0]) for row in labels.reshape(-1, labels.shape[-1])]
    return np.array(texts).reshape(indices.shape)


def write_examples(path, arrays):
    """Writes `examples` to an `.npz` file, whole or not at all."""
    with durable.replacing(path) as file:
        np.savez_compressed(file, **arrays)


def encoding_time(model, dataset, indices, mirror=False, batches=(32, 128, 512)):
    """Milliseconds an image, from decoded pixels to packed codes (DAH, Table 4).

    Args:
        model: `HashModel`.
        dataset: `data.Dataset`.
        indices: int array; at most the first 50,000 images are encoded, at batch 1 the first 500.
        mirror: bool, of `HashModel.encode`.
        batches: ints, batch sizes of which the best is chosen on the first 2,000 images.

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
        model.encode(few[:batch], batch, mirror)  # compiles
    alone = seconds(few[:500], 1) / len(few[:500])
    best = min(batches, key=lambda batch: seconds(few, batch))
    rest = len(indices) % PART
    if rest < best:
        model.encode(few[:rest], best, mirror)  # the last part has a shape of its own
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
