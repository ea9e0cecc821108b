"""Defines evaluation protocols: which images train, which are queries, and which are searched."""

import dataclasses
import hashlib

import numpy as np

from dah_tf.errors import UserError

NAMES = ("full", "1k/5k/59k", "1k/5k/54k", "unseen", "own", "unlabelled")
OWN_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Index arrays into a data set. `train`, `validation` and `query` do not overlap.

    Attributes:
        name: str.
        train: int64 array, the images that the network learns from.
        validation: int64 array, images taken out of the training images for model selection.
        query: int64 array, the queries. They are never used in training, validation or model
            selection.
        database: int64 array, the images that are searched. It includes the validation images.
        seed: int, the seed of every random choice.
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
        """Returns 12 hex digits over the indices of queries, database and all training images."""
        digest = hashlib.sha256()
        learned = np.sort(np.concatenate([self.train, self.validation]))
        for part in (self.query, self.database, learned):
            digest.update(np.ascontiguousarray(part, "<i8").tobytes() + b"|")
        return digest.hexdigest()[:12]

    def summary(self):
        """Returns what a report says about the protocol, as a dict that JSON can store."""
        parts = ("train", "validation", "query", "database")
        return {
            "name": self.name,
            "checksum": self.checksum,
            "description": self.description,
            "seed": self.seed,
            "counts": {part: len(getattr(self, part)) for part in parts},
        }


def choose(dataset) -> str:
    """Returns the name of the default protocol for a user's data set.

    Returns:
        "unlabelled" if there are no labels, "full" if there are test images, otherwise "own".
    """
    if not dataset.labelled:
        return "unlabelled"
    return "full" if len(dataset.test) else "own"


def make(name, dataset, *, validation=0, seed=0):
    """Builds a protocol for a data set.

    Args:
        name: one of `NAMES`.
            `full`: the data's training images are both the training set and the database, and its
            test images are the queries (DAH, section IV.A).
            `1k/5k/59k`: 100 images of each class are queries and 500 of each class train. The
            database holds all images except the queries.
            `1k/5k/54k`: the same, but the database does not hold the training images.
            `unseen`: the network trains on the training images of 7 tenths of the classes. All
            images of the other classes are queries or database. Each of these classes gives 100
            queries, or a fifth of the smallest class (after Sablayrolles et al., arXiv
            1609.06753).
            `own`: a tenth of each class are queries. The rest trains and is the database.
            `unlabelled`: all images train and are the database. There are no queries, because
            without labels it is not known which answers are right.
        dataset: `Dataset`.
        validation: int, the number of images that are taken out of training, from each class in
            proportion to its size. They stay in the database. If it is None, 1,000 images are
            taken, or a tenth of the training images if that is fewer.
        seed: int, the seed of every random choice made here.

    When images are drawn by class, an image with several labels counts only for its first class.

    Returns:
        `Protocol`.

    Raises:
        UserError: the data does not allow this protocol.
    """
    if name not in NAMES:
        raise UserError(f"protocol={name} is unknown; there are {', '.join(NAMES)}")
    if seed < 0:
        raise UserError(f"seed={seed} must be at least 0")
    rng = np.random.default_rng([seed, 101])
    everything = np.sort(np.concatenate([dataset.train, dataset.test]))
    if name == "unlabelled":
        if validation:
            raise UserError(f"validation={validation} needs labels; leave it out")
        description = "all images are used for training and are the database; there are no queries"
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
        description = "the training images are the database, and the test images are the queries"
    elif name.startswith("1k"):
        query = _take(dataset, everything, 100, rng, name)
        rest = np.setdiff1d(everything, query)
        train = _take(dataset, rest, 500, rng, name)
        database = rest if name.endswith("59k") else np.setdiff1d(rest, train)
        kept = "with" if name.endswith("59k") else "without"
        description = (
            f"the seed chooses 100 queries and 500 training images of each class; the database is "
            f"all other images, {kept} the training images"
        )
    elif name == "unseen":
        classes = np.unique(dataset.labels[everything])
        if dataset.multi_label or len(classes) < 4:
            raise UserError(
                f"protocol=unseen needs at least 4 classes and one label for each image, which "
                f"{dataset.name} does not have; use protocol=own"
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
                f"but {dataset.name} has {counts[smallest]}; add some, remove the class or use "
                "protocol=own"
            )
        query = _take(dataset, others, min(100, counts[smallest] // 5), rng, name)
        database = np.setdiff1d(others, query)
        names = [dataset.class_names[i] for i in seen]
        description = (
            f"the classes of the training images are {', '.join(names)}; queries and database are "
            "images of the other classes"
        )
    else:
        query = _share(dataset, everything, OWN_SHARE, rng)
        train = database = np.setdiff1d(everything, query)
        description = (
            f"the seed chooses {OWN_SHARE:.0%} of each class as queries; the rest is the database"
        )
    for part, rows in (("query", query), ("database image", database)):
        if not len(rows):
            raise UserError(
                f"{dataset.name} is too small for protocol={name}: no {part} is left; add images"
            )
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
    """Returns the class under which each image is counted in a split: its first class."""
    return labels if labels.ndim == 1 else labels.argmax(axis=1)


def _classes(dataset, indices):
    """Returns the set of classes that occur among the given images."""
    labels = dataset.labels[indices]
    found = np.unique(labels) if labels.ndim == 1 else np.flatnonzero(labels.any(axis=0))
    return set(found.tolist())


def _take(dataset, indices, per_class, rng, name):
    """Chooses `per_class` images of each class among `indices` at random.

    Raises:
        UserError: a class has too few images.
    """
    labels, parts = _first_class(dataset.labels)[indices], []
    for label in np.unique(labels):
        members = indices[labels == label]
        if len(members) < per_class or per_class < 1:
            raise UserError(
                f"protocol={name} needs {max(per_class, 1)} images of class "
                f"{dataset.class_names[label]}, but {dataset.name} has {len(members)}; use "
                "protocol=own"
            )
        parts.append(rng.permutation(members)[:per_class])
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def _share(dataset, indices, share, rng):
    """Chooses a share of each class, and at least one image if the class has two or more."""
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
    # Shares are proportional to class size. The images that rounding leaves over go to the classes
    # with the largest remainders.
    exact = count * sizes / sizes.sum()
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    for label, share in zip(classes, shares, strict=True):
        parts.append(rng.permutation(train[labels == label])[:share])
    return np.sort(np.concatenate(parts))
