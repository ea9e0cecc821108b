"""The plan of a run: which images, in which groups, with which augmentation. NumPy only.

Everything is a pure function of (seed, step), so a run resumes at any step, needs no shuffle
buffer, and every back end and number of devices sees the same batches.
"""

import functools
import math

import numpy as np

# Names of the independent random streams of one seed.
CLASSES, IMAGES, MIRROR, AUGMENT, SECOND = range(5)


class GroupPlan:
    """Class-balanced groups for every step of a run.

    The rule. Classes come from an endless stream of permutations of the n classes: group g takes
    positions `[g P, (g + 1) P)`. Each class has an endless stream of permutations of its own
    images: in its u-th turn it gives positions `[u K, (u + 1) K)`. Where a group straddles two
    permutations, the second one's head is rearranged so that no class comes twice, and no image of
    a class that has at least K. Nothing is dropped: with equal classes each image is shown once an
    epoch, a smaller class starts over sooner, and what does not fill an epoch's last step opens
    the next epoch. Every step has the same shape.

    An epoch is as many whole steps as fit into showing the largest class once, at least one.
    Multi-label images are in the stream of each class that they carry, and count once in each.

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
        cutout_epochs: float, how many epochs, from the first, cut it out, None for all; in later
            ones it lies outside of the image.
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
        cutout_epochs=None,
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
        self.sizes = np.array([len(each) for each in self.members])
        self.seed = seed
        self.groups = groups
        self.classes_per_group = min(classes_per_group or len(self.members), len(self.members))
        self.images_per_class = images_per_class
        if min(groups, self.classes_per_group, images_per_class) < 1:
            raise ValueError("Groups, classes and images must be at least 1")
        if flip not in ("none", "random", "alternate"):
            raise ValueError(f"Unknown `flip`. Received: flip={flip!r}")
        self.flip, self.shift, self.cutout, self.image_size = flip, shift, cutout, image_size
        epochs = math.inf if cutout_epochs is None else cutout_epochs
        self._cutout_steps = epochs * self.steps_per_epoch
        self._block = functools.lru_cache(maxsize=4 * len(self.members) + 16)(self._make_block)

    @property
    def group_size(self):
        """Images in a group."""
        return self.classes_per_group * self.images_per_class

    @property
    def steps_per_epoch(self):
        """Steps in which the largest class is shown once, whole steps only, at least one."""
        showings = int(self.sizes.max()) * len(self.sizes)
        return max(1, showings // (self.groups * self.group_size))

    def batch(self, step, views=1):
        """The plan of one step.

        Args:
            step: int, counted from 0 over the whole run.
            views: 1, or 2 for a second augmentation of the same images.

        Returns:
            Dict of `indices`, int64 `(G, m)`, rows of the data set; `rows`, int32 `(G, m)`,
            places in `labels` as the plan was given them; `labels`, int32 `(G, m)` or uint8
            `(G, m, classes)`; `augment`, int32 `(G, m, 5)`: flip, dy, dx, top and left of the
            cutout box; and with two views `second`, the like, of random numbers of its own; where
            the flip is to alternate, the second view has the other one.
        """
        n, k = len(self.members), self.images_per_class
        count = self.groups * self.classes_per_group
        turns = np.arange(step * count, (step + 1) * count)
        window = self.classes_per_group
        classes = self._take(CLASSES, np.zeros(count, np.int64), turns, np.full(count, n), window)
        positions = (turns // n)[:, None] * k + np.arange(k)
        numbers = np.repeat(classes, k)
        sizes = self.sizes[numbers]
        rows = self._take(IMAGES, numbers, positions.ravel(), sizes, k)
        shape = (self.groups, self.group_size)
        rows, cycles = rows.reshape(shape), (positions.ravel() // sizes).reshape(shape)
        labels = self.labels[rows]
        batch = {
            "indices": self.indices[rows].astype(np.int64),
            "rows": rows.astype(np.int32),
            "labels": labels.astype(np.int32 if labels.ndim == 2 else np.uint8),
            "augment": self._augment(AUGMENT, step, rows, cycles),
        }
        if views == 2:
            batch["second"] = self._augment(SECOND, step, rows, cycles + 1)
        return batch

    def _take(self, stream, numbers, positions, sizes, window):
        """What stands at `positions` of the streams `numbers`, permutations of `sizes` items."""
        lengths = sizes * np.where(sizes < window, 1, window // np.gcd(sizes, window))
        blocks, places = np.divmod(positions, lengths)
        result = np.empty(len(positions), np.int64)
        # Each (stream, block) that occurs is looked up once.
        span = int(blocks.max()) + 1
        keys, inverse = np.unique(numbers * span + blocks, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        bounds = np.flatnonzero(np.diff(inverse[order])) + 1
        for key, chosen in zip(keys.tolist(), np.split(order, bounds), strict=True):
            items = self._block(stream, *divmod(key, span), int(sizes[chosen[0]]), window)
            result[chosen] = items[places[chosen]]
        return result

    def _make_block(self, stream, number, block, size, window):
        """Part `block` of a stream: permutations up to where one ends together with a window.

        What straddles two of them within the block holds no item twice, if `size >= window`.
        """
        rng = np.random.default_rng([self.seed, stream, number, block])
        if size < window:
            parts = [rng.permutation(size)]
        else:
            parts = []
            for cycle in range(window // math.gcd(size, window)):
                order = rng.permutation(size)
                filled = cycle * size % window  # places of a window that the one before has filled
                if filled:
                    taken = np.isin(order, parts[-1][size - filled :])
                    head = window - filled
                    clash = np.flatnonzero(taken[:head])
                    spare = head + np.flatnonzero(~taken[head:])[: len(clash)]
                    order[clash], order[spare] = order[spare], order[clash]
                parts.append(order)
        items = np.concatenate(parts)
        return items if stream == CLASSES else self.members[number][items]

    def _augment(self, stream, step, rows, cycles):
        rng = np.random.default_rng([self.seed, stream, step])
        size, box = self.image_size, self.cutout
        coin = rng.integers(0, 2, rows.shape)
        shifts = rng.integers(-self.shift, self.shift + 1, (2, *rows.shape))
        corners = rng.integers(-(box // 2), size - box // 2, (2, *rows.shape))
        if step >= self._cutout_steps:
            corners[:] = size
        flip = {"none": np.zeros_like(coin), "random": coin}.get(self.flip)
        if flip is None:
            flip = (self._first_flip[rows] + cycles) % 2
        return np.stack([flip, *shifts, *corners], axis=-1).astype(np.int32)

    @functools.cached_property
    def _first_flip(self):
        return np.random.default_rng([self.seed, MIRROR]).integers(0, 2, len(self.labels))
