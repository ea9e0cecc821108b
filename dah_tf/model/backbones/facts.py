"""This module defines the facts that each backbone states about itself."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Facts:
    """Holds what the rest of the package must know about a backbone.

    Attributes:
        smallest: int, the smallest allowed side of an image in pixels.
        paper: bool, whether it is the network of the DAH paper.
        fixed: bool, whether it has nothing to train and needs no weights.
        imagenet: bool, whether weights trained on ImageNet are available under the name
            "imagenet".
        prepare: function that is called before training begins, or None if no preparation is
            needed. It takes the new backbone and some training images, a uint8 array of shape
            `(n, h, w, channels)`.
        advice: str that is shown if a run turns out to take hours on a CPU, or None if there is
            no advice.
    """

    smallest: int
    paper: bool = False
    fixed: bool = False
    imagenet: bool = False
    prepare: Callable | None = None
    advice: str | None = None
