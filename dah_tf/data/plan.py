"""The plan of a run: which images, in which groups, with which augmentation. NumPy only.

Everything is a pure function of (seed, step), so a run resumes at any step, needs no shuffle
buffer, and every back end and number of devices sees the same batches.
"""

import functools

import numpy as np

# Names of the independent random streams of one seed.
CLASSES, IMAGES, MIRROR, AUGMENT = range(4)


class GroupPlan:
    """Class-balanced groups for every step of a run.

    The rule. Classes come from an endless stream of permutations of the n classes: group g takes
    positions `[g P, (g + 1) P)`. Each class has an endless stream of permutations of its own
    images: in its u-th turn it gives positions `[u K, (u + 1) K)`. Where a group straddles two
    permutations, the second one's head is rearranged so that no class, and no image of a class,
    comes twice, if there are enough of them. So no image is dropped: with equal classes each is
    shown once an epoch, a smaller class starts over sooner, and what does not fill an epoch's
    last step opens the next epoch. Every step has the same shape.

    An epoch is as many whole steps as it takes to show the largest class once, at least one.
    Multi-label images are in the stream of each class that they carry.

    Args:
        labels: int array of shape `(n,)`, or 0/1 of shape `(n, classes)`, of the training images.
        indices: int array of shape `(n,)`, the images' rows in their data set; 0..n-1 where None.
        seed: int.
        groups: int G, groups a step.
        classes_per_group: int P; None takes every class.
        images_per_class: int K.
        flip: "none", "random", or "alternate" (an image is mirrored every second time).
        shift: int, largest shift in pixels.
        cutout: int, side of the cutout box in pixels.
        image_size: int, pixels.

    Raises:
        ValueError: no images, or a value out of range.
    """

    def __init__(
        self,
        labels,
        *,
        indices=None,
        seed=0,
        groups=1,
        classes_per_group=None,
        images_per_class=2,
        flip="random",
        shift=0,
        cutout=0,
        image_size=32,
    ):
        self.labels = np.asarray(labels)
        if not len(self.labels):
            raise ValueError("A plan needs at least one image. Received: no labels")
        self.indices = np.arange(len(self.labels)) if indices is None else np.asarray(indices)
        if self.labels.ndim == 2:
            members = [np.flatnonzero(column) for column in self.labels.T]
        else:
            order = np.argsort(self.labels, kind="stable")
            members = np.split(order, np.flatnonzero(np.diff(self.labels[order])) + 1)
        self.members = [each for each in members if len(each)]
        self.seed = seed
        self.groups = groups
        self.classes_per_group = min(classes_per_group or len(self.members), len(self.members))
        self.images_per_class = images_per_class
        if min(groups, self.classes_per_group, images_per_class) < 1:
            raise ValueError("Groups, classes and images must be at least 1")
        if flip not in ("none", "random", "alternate"):
            raise ValueError(f"Unknown `flip`. Received: flip={flip!r}")
        self.flip, self.shift, self.cutout, self.image_size = flip, shift, cutout, image_size
        self._permutation = functools.lru_cache(maxsize=4 * len(self.members) + 16)(self._permute)

    @property
    def group_size(self):
        """Images in a group."""
        return self.classes_per_group * self.images_per_class

    @property
    def steps_per_epoch(self):
        """Steps in which the largest class is shown once, whole steps only, at least one."""
        largest = max(len(each) for each in self.members)
        showings = largest * len(self.members)
        return max(1, showings // (self.groups * self.group_size))

    def batch(self, step):
        """The plan of one step.

        Args:
            step: int, counted from 0 over the whole run.

        Returns:
            Dict of `indices`, int64 `(G, m)`; `labels`, int32 `(G, m)` or uint8
            `(G, m, classes)`; `augment`, int32 `(G, m, 5)`: flip, dy, dx, top and left of the
            cutout box.
        """
        n, k = len(self.members), self.images_per_class
        shape = (self.groups, self.classes_per_group, k)
        first = step * self.groups * self.classes_per_group
        turns = np.arange(first, first + self.groups * self.classes_per_group)
        rows = np.empty((len(turns), k), np.int64)
        cycles = np.empty((len(turns), k), np.int64)
        for i, (turn, place) in enumerate(zip(*np.divmod(turns, n), strict=True)):
            label = self._permutation(CLASSES, 0, int(turn), n, self.classes_per_group)[place]
            members = self.members[label]
            for j in range(k):
                cycle, position = divmod(int(turn) * k + j, len(members))
                order = self._permutation(IMAGES, int(label), cycle, len(members), k)
                rows[i, j], cycles[i, j] = members[order[position]], cycle
        rows = rows.reshape(shape[0], -1)
        labels = self.labels[rows]
        return {
            "indices": self.indices[rows].astype(np.int64),
            "labels": labels.astype(np.int32 if labels.ndim == 2 else np.uint8),
            "augment": self._augment(step, rows, cycles.reshape(rows.shape)),
        }

    def _permute(self, stream, number, cycle, size, window):
        """Permutation `cycle` of a stream; its head avoids the end of the one before."""
        order = self._raw(stream, number, cycle, size)
        overlap = (cycle * size) % window  # places of a window that the one before has filled
        if cycle and overlap and size >= 2 * window:
            # Only the middle is swapped into the head: tails stay raw, and as size >= 2 window
            # the middle has enough that the tail before does not hold.
            before = set(self._raw(stream, number, cycle - 1, size)[size - overlap :])
            head = window - overlap
            spare = (i for i in range(head, size - window) if order[i] not in before)
            for place in range(head):
                if order[place] in before:
                    other = next(spare)
                    order[place], order[other] = order[other], order[place]
        return order

    def _raw(self, stream, number, cycle, size):
        return np.random.default_rng([self.seed, stream, number, cycle]).permutation(size)

    def _augment(self, step, rows, cycles):
        rng = np.random.default_rng([self.seed, AUGMENT, step])
        size, box = self.image_size, self.cutout
        coin = rng.integers(0, 2, rows.shape)
        shifts = rng.integers(-self.shift, self.shift + 1, (2, *rows.shape))
        corners = rng.integers(-(box // 2), size - box // 2, (2, *rows.shape))
        flip = {"none": np.zeros_like(coin), "random": coin}.get(self.flip)
        if flip is None:
            flip = (self._first_flip[rows] + cycles) % 2
        return np.stack([flip, *shifts, *corners], axis=-1).astype(np.int32)

    @functools.cached_property
    def _first_flip(self):
        return np.random.default_rng([self.seed, MIRROR]).integers(0, 2, len(self.labels))
