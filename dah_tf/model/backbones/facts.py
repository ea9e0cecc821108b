"""What a backbone says of itself."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the rest of the package must know of a backbone.

    Attributes:
        smallest: int, the least side of its images in pixels.
        paper: bool; it is the network of the DAH paper.
        fixed: bool; it has nothing to train, and needs no weights.
        imagenet: bool; weights trained on ImageNet can be had by that name.
        prepare: function of the new backbone and some training images, uint8
            `(n, h, w, channels)`, that is called before training begins; None where nothing is to
            be prepared.
        advice: str, what to say where a run turns out to take hours on a CPU; None says nothing.
    """

    smallest: int
    paper: bool = False
    fixed: bool = False
    imagenet: bool = False
    prepare: Callable | None = None
    advice: str | None = None
