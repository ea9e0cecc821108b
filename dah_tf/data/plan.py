"""Plans a run: which images it shows, in which groups, with which augmentation. NumPy only.

Everything is a pure function of (seed, step). A run can therefore resume at any step and needs no
shuffle buffer. Every back end and every number of devices sees the same batches.
"""

import functools
import math

import numpy as np

# These are the names of the independent random streams that one seed provides.
CLASSES, IMAGES, MIRROR, AUGMENT, SECOND = range(5)


class GroupPlan:
    """Class-balanced groups of images for every step of a run.

    The classes come from an endless stream of permutations of the n classes. Group g takes the
    positions `[g P, (g + 1) P)` of this stream. Each class also has an endless stream of
    permutations of its images. When a class is used for the u-th time, it gives the positions
    `[u K, (u + 1) K)` of its stream.

    If a group extends over two permutations, the beginning of the second one is rearranged. This
    ensures that no class occurs twice in a group, and that no image does if its class has at least
    K images. No image is dropped. If all classes are equally large, each image is shown once per
    epoch, and a smaller class starts over sooner. Images that do not fill the last step of an
    epoch begin the next epoch. Every step has the same shape.

    An epoch shows the largest class once, rounded down to whole steps, and has at least one step.
    A multi-label image is in the stream of each of its classes, and counts once in each.

    Args:
        labels: int array of shape `(n,)`, or 0/1 of shape `(n, classes)`, of the training images.
        indices: int array of shape `(n,)`, the images' rows in their data set. If it is None, the
            rows are 0 to n-1.
        seed: int, the seed of all random choices.
        groups: int, the number G of groups per step.
        classes_per_group: int, the number P of classes in a group. None takes every class.
        images_per_class: int, the number K of images of each class in a group.
        flip: "none", "random", or "alternate", which mirrors an image every second time.
        shift: int, the largest shift in pixels.
        cutout: int, the side of the cutout box in pixels.
        cutout_epochs: float, the number of epochs, from the first, in which the box is cut out.
            None means all epochs. In later epochs the box lies outside the image.
        image_size: int, the side of the images in pixels.

    Raises:
        ValueError: there are no images, or a value is out of range.
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
        """int, the number of images in a group."""
        return self.classes_per_group * self.images_per_class

    @property
    def steps_per_epoch(self):
        """int, the whole steps in which the largest class is shown once, at least one."""
        showings = int(self.sizes.max()) * len(self.sizes)
        return max(1, showings // (self.groups * self.group_size))

    def batch(self, step, views=1):
        """Returns the plan of one step.

        Args:
            step: int, counted from 0 over the whole run.
            views: 1, or 2 to add a second augmentation of the same images.

        Returns:
            Dict of arrays:
            `indices`: int64 `(G, m)`, rows of the data set.
            `rows`: int32 `(G, m)`, positions in the `labels` that were given to the plan.
            `labels`: int32 `(G, m)` or uint8 `(G, m, classes)`.
            `augment`: int32 `(G, m, 5)`, which holds flip, dy, dx, and the top and left of the
            cutout box.
            `second`: only with two views, in the same form as `augment`. It uses separate random
            numbers. If the flip is "alternate", the second view has the opposite flip.
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
        """Returns the items at `positions` of streams `numbers`, which permute `sizes` items."""
        lengths = sizes * np.where(sizes < window, 1, window // np.gcd(sizes, window))
        blocks, places = np.divmod(positions, lengths)
        result = np.empty(len(positions), np.int64)
        # Each (stream, block) that occurs is computed only once.
        span = int(blocks.max()) + 1
        keys, inverse = np.unique(numbers * span + blocks, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        bounds = np.flatnonzero(np.diff(inverse[order])) + 1
        for key, chosen in zip(keys.tolist(), np.split(order, bounds), strict=True):
            items = self._block(stream, *divmod(key, span), int(sizes[chosen[0]]), window)
            result[chosen] = items[places[chosen]]
        return result

    def _make_block(self, stream, number, block, size, window):
        """Makes part `block` of a stream. It ends where a permutation and a window end together.

        A window that extends over two permutations of the block holds no item twice, provided that
        `size >= window`.
        """
        rng = np.random.default_rng([self.seed, stream, number, block])
        if size < window:
            parts = [rng.permutation(size)]
        else:
            parts = []
            for cycle in range(window // math.gcd(size, window)):
                order = rng.permutation(size)
                filled = cycle * size % window  # Earlier cycles filled these places.
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
