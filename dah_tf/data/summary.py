"""Describes in sentences what a data set holds, and what in it will spoil a run."""

import numpy as np

FEWEST = 10
"""A class with fewer images than this causes a warning."""

RATIO = 20
"""A larger ratio of the largest class to the smallest causes a warning."""

SHRINKING = 4
"""A larger ratio of the median side of the originals to `image_size` causes a warning."""

NAMED = 3  # This many classes or files are named in a sentence.


def describe(dataset, protocol=None) -> tuple[list[str], list[str]]:
    """Describes a data set.

    Args:
        dataset: `Dataset`.
        protocol: `Protocol`, which says which images train and which are queries. If it is None,
            the data's training and test parts are used.

    Returns:
        Two lists of sentences: the facts and the warnings.

    Example:
        >>> from dah_tf import data
        >>> facts, warnings = describe(data.load("digits"))
        >>> facts[0], warnings
        ('The data set digits has 1,797 images in 10 classes.', [])
    """
    counts = _counts(dataset)
    number = f"The data set {dataset.name} has {len(dataset.labels):,} images"
    facts = [
        f"{number} in {len(counts)} classes." if dataset.labelled else f"{number} without labels."
    ]
    small, large = int(counts.argmin()), int(counts.argmax())
    names = dataset.class_names
    if not dataset.labelled:
        pass
    elif counts[small] == counts[large]:
        facts.append(f"Each class has {counts[small]:,} images.")
    else:
        facts.append(
            f"The smallest class is {names[small]} with {_images(counts[small])}, and the largest "
            f"is {names[large]} with {_images(counts[large])}."
        )
    sides = dataset.sizes.min(axis=1) if len(dataset.sizes) else np.zeros(0, int)
    if len(sides) and sides.min() == sides.max():
        facts.append(f"The shorter sides of the originals measure {sides[0]:,} pixels.")
    elif len(sides):
        facts.append(
            f"The shorter sides of the originals measure {sides.min():,} to {sides.max():,} "
            f"pixels, with a median of {np.median(sides):,.0f}."
        )
    if dataset.ignored:
        kinds = sorted(dataset.ignored.items(), key=lambda each: (-each[1], each[0]))
        count = sum(dataset.ignored.values())
        facts.append(
            f"{count:,} "
            f"{'file is not an image and was' if count == 1 else 'files are not images and were'}"
            f" ignored: {_listed([f'{number:,} {kind}' for kind, number in kinds])}."
        )
    if dataset.skipped:
        lost = _listed([f"{name} ({reason})" for name, reason in dataset.skipped])
        facts.append(f"{_images(len(dataset.skipped))} cannot be read: {lost}.")
    return facts, [*dataset.warnings, *_warnings(dataset, protocol, counts, sides)]


def _warnings(dataset, protocol, counts, sides):
    few = np.flatnonzero((counts > 0) & (counts < FEWEST) & dataset.labelled)
    if len(few):
        few = few[np.argsort(counts[few], kind="stable")]
        named = _listed([f"{dataset.class_names[each]} ({counts[each]})" for each in few])
        classes = "1 class has" if len(few) == 1 else f"{len(few):,} classes have"
        yield f"{classes} fewer than {FEWEST} images, which are too few to learn from: {named}."
    there = counts[counts > 0]
    if there.max() > RATIO * there.min():
        yield (
            f"The largest class has {there.max() / there.min():.0f} times as many images as the "
            "smallest; results on the small classes will be poor."
        )
    side = dataset.images.size
    if len(sides) and np.median(sides) > SHRINKING * side:
        yield (
            f"The originals are much larger than image_size={side}: their median side has "
            f"{np.median(sides):,.0f} pixels. Details are lost when they are shrunk."
        )
    yield from _same(dataset, protocol)


def _same(dataset, protocol):
    """Returns the warnings about images that occur more than once."""
    hashes = dataset.row_hashes()
    if len(np.unique(hashes)) == len(hashes):
        return
    if protocol is None:
        learned, query = dataset.train, dataset.test
    else:
        learned = np.concatenate([protocol.train, protocol.validation])
        query = protocol.query
    leaked = query[np.isin(hashes[query], hashes[learned])]
    if len(leaked):
        twin = learned[hashes[learned] == hashes[leaked[0]]][0]
        yield (
            f"{len(leaked):,} of {len(query):,} queries {'is' if len(leaked) == 1 else 'are'} also "
            f"among the training images, by content: {_name(dataset, leaked[0])} is the same as "
            f"{_name(dataset, twin)}. The results will be too good."
        )
    labels = dataset.labels
    if dataset.multi_label:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    order = np.lexsort((labels, hashes))
    first, second = order[:-1], order[1:]
    clash = (hashes[first] == hashes[second]) & (labels[first] != labels[second])
    if clash.any():
        place = int(clash.argmax())
        contents = len(np.unique(hashes[first][clash]))
        yield (
            f"{_images(contents)} {'occurs' if contents == 1 else 'occur'} in two classes with "
            f"the same content: {_name(dataset, first[place])} is the same as "
            f"{_name(dataset, second[place])}."
        )


def _counts(dataset):
    """Counts the images of each class, as an int array. An image counts for each of its labels."""
    if dataset.multi_label:
        return dataset.labels.sum(axis=0, dtype=np.int64)
    return np.bincount(dataset.labels, minlength=dataset.num_classes)


def _name(dataset, row):
    return dataset.ids[row] if dataset.ids else f"image {row} ({_label(dataset, row)})"


def _label(dataset, row):
    label = dataset.labels[row]
    own = np.flatnonzero(label) if dataset.multi_label else [label]
    return ";".join(dataset.class_names[each] for each in own)


def _images(count):
    return f"{count:,} {'image' if count == 1 else 'images'}"


def _listed(words):
    rest = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
