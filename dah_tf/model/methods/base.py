"""This module defines `Method`, the interface between a hash method and the rest of the package.

`HashModel`, training, evaluation, export, encoding, search and reports do not know any method by
name. They only use a `Method` object. To add a method, write a module in this folder and add one
line to `METHODS`:

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

Nothing else is needed. `--method=pull:weight=2` then trains the method, its terms are logged and
plotted, and the tests in `tests/model/methods/` cover it. A method may also do more than define a
loss, and each attribute below describes what is possible.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from dah_tf import parts
from dah_tf.layers import HashHead

# The probe sees values in [-1, 1] multiplied by this factor. Without the factor it would learn
# too slowly to keep up with the codes.
PROBE_SCALE = 8.0
SOURCES = ("paper", "code", "reading")


@dataclasses.dataclass(frozen=True)
class Needs:
    """Describes what a method needs from the data, the network and the devices.

    A run that does not meet these needs is refused.

    Attributes:
        rows: bool, whether the method needs `outputs["rows"]`. This is an int32 tensor of shape
            `(groups, m)` that holds each image's number among the training images.
        feature_map: bool, whether the method needs `outputs["map"]`. This is the last output of
            the backbone that has a height and a width, with shape `(groups, m, h, w, channels)`.
        views: int, 1, or 2 if the method needs a second augmentation of the same images. In the
            second case `outputs["second"]` is a dict of the `features`, `logits`, `hash` and
            `classes` of that augmentation. The dict also holds its `map` if `feature_map` is
            True.
        smallest_group: int, the smallest allowed number of images in a group.
        splits: bool, whether a batch may be split between its groups. This is allowed if the
            mean of the losses of the parts is the loss of the whole batch, so that several
            devices train the same weights. It must be False if `terms` assigns to the state.
        several: bool, whether images may have several labels.
    """

    rows: bool = False
    feature_map: bool = False
    views: int = 1
    smallest_group: int = 1
    splits: bool = True
    several: bool = True


@dataclasses.dataclass(frozen=True)
class Facts:
    """Holds what a method may know about the run before its first step.

    Attributes:
        labels: array of the labels of the training images. It holds ints and has shape `(n,)`,
            or it holds 0 and 1 and has shape `(n, classes)`. The row of an image is its index in
            this array.
        bits: int, the code length.
        num_classes: int, the number of classes.
        features: int, the length of the backbone's output.
        groups: int, the number of groups in a step.
        group_size: int, the number of images in a group.
        steps: int, the number of steps in the whole run.
        steps_per_epoch: int, the number of steps in an epoch.
        seed: int, the random seed.
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
    """A hash method, which defines what is trained and with which loss.

    The constants of a method are the keyword-only, annotated arguments of its constructor. The
    constructor keeps them as attributes of the same names, and raises `UserError` if one is out
    of its range. A method keeps nothing else, because everything that changes in training belongs
    to the state.

    Attributes:
        name: str, the name in `METHODS`.
        title: str, the name that reports show, with authors and year.
        source: str, the origin of the formula and the constants. "paper" is the text of the
            authors and "code" is their code. "reading" is a reconstruction or our own method,
            which must not be mistaken for the method of the authors.
        activation: str, the name of the activation in `layers.hashing.ACTIVATIONS` that the
            `head` below uses.
        has_classifier: bool, whether the class layer is part of the method, so that `terms`
            includes its loss. If it is False, the class layer is a linear probe. The probe
            learns from the hash values behind a stopped gradient, with a separate cross-entropy
            loss, and does not change any code.
        needs: `Needs` of the method.
        exact_gradient: bool, whether the gradient of the loss is its derivative wherever it has
            one. It is False if the gradient is an estimate, passes straight through a sign, or is
            stopped at a tensor on which the loss depends. The method's own tests then check the
            gradient, and those of all methods do not.
        sampled: bool, whether `terms` draws random numbers, so that the loss depends on the places
            of the images in a group.
        one_fit: bool, whether the method learns from features in a single fit, without any step
            of an optimiser.
        loop: None for `training.loop.Run`, or another class with the same arguments, attributes
            and `fit`. The class may also be given as the text "package.module:Class".
    """

    name = None
    title = ""
    source = "reading"
    activation = "tanh"
    has_classifier = False
    needs = Needs()
    exact_gradient = True
    sampled = False
    one_fit = False
    loop = None

    def __str__(self):
        """Returns the method as a text with every option, which `methods.get` can read."""
        return str(parts.Spec(self.name, {k: parts.write(v) for k, v in self.options.items()}))

    def __repr__(self):
        return f"<method {self}>"

    @property
    def options(self):
        """Returns a dict of the constructor's arguments."""
        return {name: getattr(self, name) for name in parts.keys(type(self))}

    @property
    def facts(self):
        """Returns what a result file says about the method.

        This is a dict of `name`, `title`, `spec` and `source`.
        """
        return {
            "name": self.name,
            "title": self.title,
            "spec": str(self),
            "source": self.source,
        }

    def head(self, bits: int) -> keras.layers.Layer:
        """Makes the layer from features to logits and hash values, named "hash_head".

        Returns:
            Layer that takes a tensor of shape `(n, features)` and returns a pair of float32
            tensors of shape `(n, bits)`. The first holds logits. The second holds values in
            [0, 1] that increase with the logits and are 1/2 at a logit of 0. A bit is 1 if its
            logit is above 0. The layer's `activation` turns logits into values. The logits of an
            image and of its mirror image are averaged before the activation. The layer's `span`
            is the pair of the lowest and the highest value.

            If the layer has the attribute `takes_map = True`, it takes a pair of the features and
            the backbone's feature map, a float32 tensor of shape `(n, h, w, channels)`. Its `build`
            is then given the shapes of both.

            If the layer has a method `more(map, pool)`, what it returns is added to `outputs` in
            training. This is a dict of float32 tensors with one entry for each image. `pool` is
            the part of the backbone that makes features of a map.
        """
        return HashHead(bits, activation=self.activation, name="hash_head")

    def head_of(self, bits: int, num_classes: int) -> keras.layers.Layer:
        """Makes the `head` of a model for a number of classes.

        A method overrides this function if its head depends on the number of classes.
        """
        return self.head(bits)

    def classifier(self, num_classes: int) -> keras.layers.Layer:
        """Makes the layer from the result of `seen` to float32 class logits.

        The layer is named "classifier".
        """
        return keras.layers.Dense(num_classes, dtype="float32", name="classifier")

    def seen(self, logits, values):
        """Returns the input of the class layer, a float tensor of shape `(n, width)`.

        By default this is the input of the probe.

        Args:
            logits, values: float tensors of shape `(n, bits)`, the outputs of the head.
        """
        return ops.stop_gradient(PROBE_SCALE * (2.0 * values - 1.0))

    def terms(self, labels, outputs, state, step):
        """Computes the loss and the parts of it that are shown.

        Args:
            labels: int tensor of shape `(groups, m)`, or a tensor of 0 and 1 of shape
                `(groups, m, classes)` if images have several labels.
            outputs: dict of float32 tensors. It holds `features` of shape `(groups, m, d)`,
                `logits` and `hash` of shape `(groups, m, bits)`, `classes` (logits) of shape
                `(groups, m, classes)`, and what `needs` asks for. If the head has an attribute
                `bit_weights`, it also holds these, repeated to shape `(groups, m, bits)`. If the
                head has a method `more`, it also holds what this returns.
            state: dict of the Keras variables that `variables` describes. A method that does
                not split may assign to them.
            step: int tensor, the number of optimiser steps done before this one.

        Returns:
            Dict of float scalars, which are means over the groups. The entry `loss` is
            minimised. Every entry is logged, plotted and reported under its name, in this order.
            If `has_classifier` is False, `probe_loss` and `accuracy` are added after them.
        """
        raise NotImplementedError

    def variables(self, facts: Facts) -> dict:
        """Returns the initial state that the method keeps in addition to the weights.

        Examples are banks, centres or the factor of a continuation. The state is kept in
        checkpoints and restored when a run resumes. It does not belong to the model's weights,
        to its fingerprint, to `.keras` files or to exports.

        Returns:
            Dict of name to array with the values before the first step.
        """
        return {}

    def due(self, step: int, facts: Facts) -> bool:
        """Tells whether `between` must be called once `step` steps are done, before the next."""
        return False

    def between(self, step: int, encode, state: dict, facts: Facts) -> dict:
        """Does work on the host before a step, such as rebuilding a bank or solving for targets.

        It must be a pure function of its arguments, the seed in `facts` and the weights behind
        `encode`, because a run that resumes at `step` calls it again.

        Args:
            step: int, the number of steps done.
            encode: function that takes rows, an int array of shape `(n,)`. It returns a dict of
                float32 NumPy arrays for these training images without augmentation. The entries
                are `features`, `logits`, `hash` and `classes`.
            state: dict of name to NumPy array, the values of the state.
            facts: `Facts` of the run.

        Returns:
            Dict of name to array with the new values of the entries of the state that change.
        """
        return {}
