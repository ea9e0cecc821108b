"""Evaluation protocols: which images train, which are queries, which are searched."""

import dataclasses
import hashlib

import numpy as np

from dah_tf.errors import UserError

NAMES = ("full", "1k/5k/59k", "1k/5k/54k", "unseen", "own", "unlabelled")
OWN_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Index arrays into a data set; `train`, `validation` and `query` are disjoint.

    Attributes:
        name: str.
        train: int64 array, what the network learns from.
        validation: int64 array, carved from training for model selection.
        query: int64 array, never part of training, validation or model selection.
        database: int64 array, what is searched; keeps the validation images.
        seed: int, of every random choice.
        description: str, the rule in words.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    query: np.ndarray
    database: np.ndarray
    seed: int
    description: str

    @property
    def checksum(self):
        """12 hex digits over the query and database indices and all training ones."""
        digest = hashlib.sha256()
        learned = np.sort(np.concatenate([self.train, self.validation]))
        for part in (self.query, self.database, learned):
            digest.update(np.ascontiguousarray(part, "<i8").tobytes() + b"|")
        return digest.hexdigest()[:12]

    def summary(self):
        """What a report says of the protocol: a JSON-able dict."""
        parts = ("train", "validation", "query", "database")
        return {
            "name": self.name,
            "checksum": self.checksum,
            "description": self.description,
            "seed": self.seed,
            "counts": {part: len(getattr(self, part)) for part in parts},
        }


def choose(dataset) -> str:
    """The protocol of data of one's own.

    Returns:
        "unlabelled" where there are no labels, "full" where there are test images, else "own".
    """
    if not dataset.labelled:
        return "unlabelled"
    return "full" if len(dataset.test) else "own"


def make(name, dataset, *, validation=0, seed=0):
    """Builds a protocol on a data set.

    Args:
        name: one of `NAMES`.
            `full`: the data's training images are training set and database, its test images
            are queries (DAH, section IV.A).
            `1k/5k/59k`: of all images, 100 a class are queries and 500 a class train; the
            database is everything but the queries. `1k/5k/54k`: without the training images.
            `unseen`: the network trains on 7 tenths of the classes, training images only;
            queries (100 a class, or a fifth of the smallest class) and database are all images
            of the other classes (after Sablayrolles et al., arXiv 1609.06753).
            `own`: a tenth of each class are queries, the rest trains and is the database.
            `unlabelled`: all images train and are the database. There are no queries, because
            without labels nobody knows which answers are right.
        dataset: `Dataset`.
        validation: int, images taken out of training, from each class by its share. They stay in
            the database. None takes 1,000, or a tenth of the training images where that is fewer.
        seed: int, of every choice made here.

    An image with several labels counts as its first class' where classes are drawn from.

    Returns:
        `Protocol`.

    Raises:
        UserError: the data does not allow it.
    """
    if name not in NAMES:
        raise UserError(f"unknown protocol={name}; known: {', '.join(NAMES)}")
    if seed < 0:
        raise UserError(f"seed={seed} is below 0")
    rng = np.random.default_rng([seed, 101])
    everything = np.sort(np.concatenate([dataset.train, dataset.test]))
    if name == "unlabelled":
        if validation:
            raise UserError(f"validation={validation} needs labels; leave it out")
        description = "all images train and are the database; there are no queries"
        nothing = everything[:0]
        return Protocol(name, everything, nothing, nothing, everything, seed, description)
    if not dataset.labelled:
        raise UserError(f"protocol={name} needs labels; use protocol=unlabelled")
    if name == "full":
        if not len(dataset.test):
            raise UserError(
                f"{dataset.name} has no test images for protocol=full; use protocol=own"
            )
        train, query, database = dataset.train, dataset.test, dataset.train
        description = "training images are the database, test images the queries"
    elif name.startswith("1k"):
        query = _take(dataset, everything, 100, rng, name)
        rest = np.setdiff1d(everything, query)
        train = _take(dataset, rest, 500, rng, name)
        database = rest if name.endswith("59k") else np.setdiff1d(rest, train)
        kept = "with" if name.endswith("59k") else "without"
        description = (
            f"100 queries and 500 training images a class, seeded; all other images are the "
            f"database, {kept} the training images"
        )
    elif name == "unseen":
        classes = np.unique(dataset.labels[everything])
        if dataset.multi_label or len(classes) < 4:
            raise UserError(
                f"protocol=unseen needs 4 or more classes, one an image, which {dataset.name} "
                "has not; use protocol=own"
            )
        seen = np.sort(rng.permutation(classes)[: len(classes) * 7 // 10])
        is_seen = np.isin(dataset.labels, seen)
        train = dataset.train[is_seen[dataset.train]]
        others = everything[~is_seen[everything]]
        counts = np.bincount(dataset.labels[others], minlength=dataset.num_classes)
        smallest = np.where(counts > 0, counts, counts.max() + 1).argmin()
        if counts[smallest] < 5:
            raise UserError(
                f"protocol=unseen needs 5 images of class {dataset.class_names[smallest]}, "
                f"{dataset.name} has {counts[smallest]}; add some, remove the class or use "
                "protocol=own"
            )
        query = _take(dataset, others, min(100, counts[smallest] // 5), rng, name)
        database = np.setdiff1d(others, query)
        names = [dataset.class_names[i] for i in seen]
        description = f"trained on {', '.join(names)}; queries and database are the other classes"
    else:
        query = _share(dataset, everything, OWN_SHARE, rng)
        train = database = np.setdiff1d(everything, query)
        description = f"{OWN_SHARE:.0%} of each class are queries, seeded; the rest is the database"
    for part, rows in (("query", query), ("database image", database)):
        if not len(rows):
            raise UserError(f"{dataset.name} is too small for protocol={name}: no {part} is left")
    if validation is None:
        validation = min(1000, len(train) // 10)
    held = _validation(dataset, train, validation, np.random.default_rng([seed, 102]))
    learned = np.setdiff1d(train, held)
    lost = _classes(dataset, train) - _classes(dataset, learned)
    if lost:
        raise UserError(
            f"validation={validation} leaves no training image of class "
            f"{dataset.class_names[min(lost)]}; lower it"
        )
    unknown = _classes(dataset, query) - _classes(dataset, learned)
    if unknown and name != "unseen":
        raise UserError(
            f"{dataset.name} has no training image of class {dataset.class_names[min(unknown)]} "
            f"under protocol={name}; add some or remove the class"
        )
    return Protocol(name, learned, held, np.sort(query), np.sort(database), seed, description)


def _first_class(labels):
    """The class an image is counted under when a split is made: the first of several."""
    return labels if labels.ndim == 1 else labels.argmax(axis=1)


def _classes(dataset, indices):
    """The set of classes that occur among some images."""
    labels = dataset.labels[indices]
    found = np.unique(labels) if labels.ndim == 1 else np.flatnonzero(labels.any(axis=0))
    return set(found.tolist())


def _take(dataset, indices, per_class, rng, name):
    """`per_class` images of each class of `indices`, at random.

    Raises:
        UserError: a class has too few.
    """
    labels, parts = _first_class(dataset.labels)[indices], []
    for label in np.unique(labels):
        members = indices[labels == label]
        if len(members) < per_class or per_class < 1:
            raise UserError(
                f"protocol={name} needs {max(per_class, 1)} images of class "
                f"{dataset.class_names[label]}, {dataset.name} has {len(members)}; use "
                "protocol=own"
            )
        parts.append(rng.permutation(members)[:per_class])
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def _share(dataset, indices, share, rng):
    """A share of each class, at least one image where it has two or more."""
    labels, parts = _first_class(dataset.labels)[indices], [np.zeros(0, np.int64)]
    for label in np.unique(labels):
        members = indices[labels == label]
        count = min(max(1, round(share * len(members))), len(members) - 1)
        parts.append(rng.permutation(members)[:count])
    return np.sort(np.concatenate(parts))


def _validation(dataset, train, count, rng):
    if not count:
        return np.zeros(0, np.int64)
    if not 0 < count <= len(train) // 2:
        raise UserError(
            f"validation={count} is not between 0 and half of the {len(train)} training images; "
            f"set validation={len(train) // 10} or 0"
        )
    labels, parts = _first_class(dataset.labels)[train], []
    classes, sizes = np.unique(labels, return_counts=True)
    # Shares by class size; what rounding leaves goes to the largest remainders.
    exact = count * sizes / sizes.sum()
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    for label, share in zip(classes, shares, strict=True):
        parts.append(rng.permutation(train[labels == label])[:share])
    return np.sort(np.concatenate(parts))
