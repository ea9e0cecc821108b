"""`Method`: the one seam between a hash method and everything else.

`HashModel`, training, evaluation, export, encoding, search and reports know no method by name:
they ask a `Method`. To add one, write a module in this folder, and one line in `METHODS`:

    class Pull(Method):
        '''Draws the hash values of similar images together.'''

        name = "pull"
        title = "Pull (ours)"
        source = "reading"

        def __init__(self, *, weight: float = 1.0):
            self.weight = weight

        def terms(self, labels, outputs, state, step):
            pull = losses.pair_likelihood(outputs["logits"], losses.similarity(labels))
            return {"loss": self.weight * pull, "pull": pull}

    METHODS = {..., "pull": "dah_tf.model.methods.pull:Pull"}

That is all: `--method=pull:weight=2` trains it, its terms are logged and plotted, and the tests in
`tests/model/methods/` try it. What a method may do beyond a loss is described at each attribute.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from dah_tf import parts
from dah_tf.layers import HashHead

# A probe that saw values of [-1, 1] would learn too slowly to keep up with the codes.
PROBE_SCALE = 8.0
SOURCES = ("paper", "code", "reading")


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a method needs of the data, the network and the devices; a run refuses what is not met.

    Attributes:
        rows: bool; `outputs["rows"]` holds each image's number among the training images, int32
            `(groups, m)`.
        feature_map: bool; `outputs["map"]` holds the last output of the backbone that has a
            height and a width, `(groups, m, h, w, channels)`.
        views: 1, or 2 for a second augmentation of the same images: `outputs["second"]` is then a
            dict of `features`, `logits`, `hash`, `classes` and maybe `map` of it.
        smallest_group: int, the least number of images in a group.
        splits: bool; whether the mean of the losses of parts of a batch, split between groups, is
            the loss of the whole, so that several devices train the same weights. A method whose
            `terms` assigns to the state does not split.
    """

    rows: bool = False
    feature_map: bool = False
    views: int = 1
    smallest_group: int = 1
    splits: bool = True


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a method may know of the run before its first step.

    Attributes:
        labels: array of the training images' labels: ints `(n,)`, or 0/1 `(n, classes)`. An
            image's place in it is its row.
        bits, num_classes: ints.
        features: int, the length of the backbone's output.
        groups: int, groups a step.
        group_size: int, images in a group.
        steps, steps_per_epoch: ints, of the whole run and of an epoch.
        seed: int.
    """

    labels: np.ndarray
    bits: int
    num_classes: int
    features: int
    groups: int
    group_size: int
    steps: int
    steps_per_epoch: int
    seed: int


class Method:
    """A hash method: what is trained, and by which loss.

    A method's constants are the keyword-only, annotated arguments of its constructor, which keeps
    them as attributes of the same names and raises `UserError` where one is out of its range.
    A method keeps nothing else: what changes in training is in the state.

    Attributes:
        name: str, its name in `METHODS`.
        title: str, what reports call it, with authors and year.
        source: where formula and constants come from. "paper": the authors' text; "code": their
            code; "reading": a reconstruction, or ours, which is not to be taken for the authors'
            method.
        activation: name of `layers.hashing.ACTIVATIONS`, of the head below.
        has_classifier: bool; the class layer is part of the method, and `terms` has its loss.
            Where it is False, the class layer is a linear probe: it learns from the hash values
            behind a stopped gradient, by a cross-entropy of its own, and changes no code.
        needs: `Needs`.
        one_fit: bool; it learns in one fit from features, and no step of an optimiser is taken.
        loop: None for `training.loop.Run`; or a class to take in its place, with the same
            arguments, attributes and `fit`, or its address as text, "package.module:Class".
    """

    name = None
    title = ""
    source = "reading"
    activation = "tanh"
    has_classifier = False
    needs = Needs()
    one_fit = False
    loop = None

    def __str__(self):
        """The method as a text with every option written out; `methods.get` reads it."""
        return str(parts.Spec(self.name, {k: parts.write(v) for k, v in self.options.items()}))

    def __repr__(self):
        return f"<method {self}>"

    @property
    def options(self):
        """Dict of the constructor's arguments."""
        return {name: getattr(self, name) for name in parts.keys(type(self))}

    @property
    def facts(self):
        """What a result says of the method: a dict of `name`, `title`, `spec` and `source`."""
        return {
            "name": self.name,
            "title": self.title,
            "spec": str(self),
            "source": self.source,
        }

    def head(self, bits: int) -> keras.layers.Layer:
        """The layer from features to logits and hash values. Its name must be "hash_head".

        Returns:
            Layer that takes `(n, features)` and returns a pair of float32 tensors `(n, bits)`:
            logits, and values in [0, 1] that increase with the logits and are 1/2 at 0. A bit is
            1 where its logit is above 0. Its `activation` turns logits into values (those of an
            image and of its mirror image are averaged before it), and its `span` is the pair of
            the lowest and the highest value.
        """
        return HashHead(bits, activation=self.activation, name="hash_head")

    def classifier(self, num_classes: int) -> keras.layers.Layer:
        """The layer from what `seen` returns to float32 class logits. It is named "classifier"."""
        return keras.layers.Dense(num_classes, dtype="float32", name="classifier")

    def seen(self, logits, values):
        """What the class layer takes: a float tensor `(n, width)`; by default the probe's.

        Args:
            logits, values: float tensors `(n, bits)` of the head.
        """
        return ops.stop_gradient(PROBE_SCALE * (2.0 * values - 1.0))

    def terms(self, labels, outputs, state, step):
        """The loss, and what is shown of it.

        Args:
            labels: int tensor `(groups, m)`; or 0/1 `(groups, m, classes)`, of several labels.
            outputs: dict of float32 tensors: `features` `(groups, m, d)`, `logits` and `hash`
                `(groups, m, bits)`, `classes` (logits) `(groups, m, classes)`; and what `needs`
                asks for.
            state: dict of Keras variables, see `variables`. A method that does not split may
                assign to them.
            step: int tensor, optimiser steps done before this one.

        Returns:
            Dict of float scalars, means over the groups. `loss` is what is minimised; every entry
            is logged, plotted and reported under its name, in this order. The methods of which
            `has_classifier` is False get `probe_loss` and `accuracy` after them.
        """
        raise NotImplementedError

    def variables(self, facts: Facts) -> dict:
        """The state beside the weights, such as banks, centres or a continuation's factor.

        It is kept in checkpoints and restored when a run resumes; it is no part of the model's
        weights, of its fingerprint, of `.keras` files and of exports.

        Returns:
            Dict of name to array, the values before the first step.
        """
        return {}

    def due(self, step: int, facts: Facts) -> bool:
        """Whether `between` is to be called before the step that follows `step` steps done."""
        return False

    def between(self, step: int, encode, state: dict, facts: Facts) -> dict:
        """Work on the host before a step, such as a bank made anew or targets solved for.

        It must be a pure function of its arguments, the seed in `facts` and the weights behind
        `encode`: a run that resumes at `step` calls it again.

        Args:
            step: int, steps done.
            encode: function of rows, an int array `(n,)`, to a dict of float32 NumPy arrays of
                these training images as they are, not augmented: `features`, `logits`, `hash`,
                `classes`.
            state: dict of name to NumPy array, the state's values.
            facts: `Facts`.

        Returns:
            Dict of name to array: the new values of those entries of the state.
        """
        return {}
