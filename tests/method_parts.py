"""Small models, labels and losses with which the tests try every hash method."""

import functools
import json
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from training_runs import train

from dah_tf.model import HashModel, methods

BITS, CLASSES, GROUPS = 6, 3, 2
SIDE = 8  # pixels of the images of a training run


def group_size(name):
    """Returns the number of images in a group: 6, or more if the method needs larger groups."""
    return CLASSES * max(2, -(-methods.get(name).needs.smallest_group // CLASSES))


def facts(name, num_classes=CLASSES, several=False):
    """Returns the `methods.Facts` of a short run."""
    m = group_size(name)
    labels = np.arange(max(24, GROUPS * m)) % num_classes
    return methods.Facts(
        labels=np.eye(num_classes, dtype="uint8")[labels] if several else labels,
        bits=BITS,
        num_classes=num_classes,
        features=BITS,
        groups=GROUPS,
        group_size=m,
        steps=10,
        steps_per_epoch=2,
        seed=0,
    )


def labels_of(name, several=False):
    """Returns the labels of two groups with equally many images of each class."""
    one = np.tile(np.repeat(np.arange(CLASSES), group_size(name) // CLASSES), (GROUPS, 1))
    return np.eye(CLASSES, dtype="uint8")[one] if several else one.astype("int32")


def logits_of(name, seed=0):
    """Returns float64 logits of shape `(groups, m, bits)` that are normally distributed."""
    return np.random.default_rng(seed).normal(size=(GROUPS, group_size(name), BITS))


def rows_of(name):
    """Returns a row number for each image of `logits_of`."""
    return np.arange(GROUPS * group_size(name)).reshape(GROUPS, -1)


def encoded(method, known):
    """Returns a function for `Method.between` that gives each row fixed random outputs."""
    rng, n = np.random.default_rng(3), len(known.labels)
    logits = rng.normal(size=(n, known.bits)).astype("float32")
    outputs = {
        "features": rng.normal(size=(n, known.features)).astype("float32"),
        "logits": logits,
        "hash": np.array(method.head(known.bits).activation(logits)),
        "classes": rng.normal(size=(n, known.num_classes)).astype("float32"),
    }
    return lambda rows: {key: value[np.asarray(rows)] for key, value in outputs.items()}


def given(head, features):
    """Returns what a head takes: features, and if it asks for a map, one that they are spread over."""
    if not getattr(head, "takes_map", False):
        return features
    return features, np.tile(features[:, None, None], (1, 2, 2, 1))


def filled(method, known):
    """Returns the state of a method after its first call of `between`, if there is one."""
    state = dict(method.variables(known))
    for step in range(known.steps):
        if method.due(step, known):
            return state | method.between(step, encoded(method, known), dict(state), known)
    return state


class Loss:
    """The terms of a method as a function of logits, computed in the logits' dtype.

    The outputs that do not follow from the logits are fixed: the feature map is random, and so are
    the weights of the class layer. A state is as `between` leaves it, before each call.
    """

    def __init__(self, name, num_classes=CLASSES, several=False, dtype="float64"):
        self.method, self.dtype = methods.get(name), dtype
        self.activation = self.method.head(BITS).activation
        layer = self.method.classifier(num_classes)
        self.classifier = type(layer).from_config({**layer.get_config(), "dtype": dtype})
        none = tf.zeros((1, BITS), dtype)
        self.classifier.build((None, self.method.seen(none, none).shape[-1]))
        rng = np.random.default_rng(9)
        for weight in self.classifier.weights:
            weight.assign(rng.normal(size=weight.shape))
        self.first = filled(self.method, facts(name, num_classes, several))
        self.state = {
            key: keras.Variable(value, dtype=self._kind(value), autocast=False)
            for key, value in self.first.items()
        }
        self.map = np.maximum(rng.normal(size=(GROUPS, group_size(name), 4, 4, 5)), 0)
        self.head = self.method.head_of(BITS, num_classes)
        if hasattr(self.head, "more"):
            shapes = [(None, BITS), (None, 4, 4, 5)]
            self.head.build(shapes if getattr(self.head, "takes_map", False) else shapes[0])
            for weight in self.head.weights:
                weight.assign(rng.normal(size=weight.shape))

    def __call__(self, logits, labels, rows=None, second=None, maps=None):
        for name, value in self.first.items():
            self.state[name].assign(value)
        logits = tf.convert_to_tensor(logits, self.dtype)
        outputs = self.outputs(logits, maps)
        if self.method.needs.views == 2:
            outputs["second"] = self.outputs(logits[:, ::-1] if second is None else second, maps)
        if self.method.needs.rows:
            every = np.arange(logits.shape[0] * logits.shape[1]).reshape(logits.shape[:2])
            outputs["rows"] = tf.constant(every if rows is None else rows, tf.int32)
        return self.method.terms(labels, outputs, self.state, tf.constant(3))

    def _kind(self, value):
        """Returns the dtype of a part of the state: that of the logits if it holds floats."""
        kind = np.asarray(value).dtype
        return self.dtype if kind.kind == "f" else kind.name

    def outputs(self, logits, maps):
        logits = tf.convert_to_tensor(logits, self.dtype)
        flat = tf.reshape(logits, (-1, BITS))
        values = self.activation.call(flat)  # the layer itself would round to float32
        outputs = {
            "features": flat,
            "logits": flat,
            "hash": values,
            "classes": self.classifier(self.method.seen(flat, values)),
        }
        shape = logits.shape[:2]
        maps = tf.constant(self.map if maps is None else maps, self.dtype)
        if hasattr(self.head, "more"):
            outputs.update(self.head.more(tf.reshape(maps, (-1, *maps.shape[2:])), pooled))
        outputs = {k: tf.reshape(v, (*shape, v.shape[-1])) for k, v in outputs.items()}
        if self.method.needs.feature_map:
            outputs["map"] = maps
        return outputs


def pooled(maps):
    """Makes features of a map, as the end of a backbone does."""
    return tf.reduce_max(maps, axis=(1, 2))[:, :1] * np.linspace(-1, 1, BITS).astype("float32")


def gradient(function, x):
    """Returns the value of a function and its gradient, both as NumPy arrays."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return np.array(value), np.array(tape.gradient(value, x))


def check_gradient(function, x, seed=2):
    """Compares a gradient with finite differences along directions and at single places.

    Where the slopes to both sides differ, the function has a kink, and the place is left out. At
    least half of the places must be without one.

    Args:
        function: function of a float64 tensor that returns a float64 scalar.
        x: float64 array.
    """
    value, found = gradient(function, x)
    assert value.dtype == np.float64
    assert np.abs(found).max() > 1e-4
    rng, step, compared = np.random.default_rng(seed), 1e-6, 0
    ways = [rng.normal(size=x.shape) for _ in range(3)]
    for place in rng.permutation(x.size)[:5]:
        ways.append(np.zeros(x.shape))
        ways[-1].flat[place] = 1.0
    for way in ways:
        up, down = (float(function(tf.constant(x + sign * step * way))) for sign in (1, -1))
        expected = (up - down) / (2 * step)
        if abs(up + down - 2 * value) / step < 1e-4 * max(1.0, abs(expected)):
            compared += 1
            np.testing.assert_allclose((found * way).sum(), expected, rtol=1e-4, atol=1e-7)
    assert compared >= len(ways) // 2


def model_of_numbers(name, **options):
    """Returns a model whose images are rows of numbers, which its backbone hands on."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((1, 1, BITS))
    x = keras.layers.Activation("linear")(inputs)
    backbone = keras.Model(inputs, keras.layers.Flatten()(x))
    return HashModel(backbone, BITS, CLASSES, method=name, **options)


def small(name, seed=0):
    """Returns an untrained model with one convolution."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None, None, 1))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="gelu")(x)
    backbone = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(x))
    return HashModel(backbone, BITS, CLASSES, image_size=SIDE, method=name)


def trained(name, steps=4):
    """Trains `small` by the method's loop, and returns it and what the run logged."""
    m = group_size(name)
    labels = np.repeat(np.arange(CLASSES), max(8, m)).astype("int32")
    images = np.random.default_rng(0).integers(0, 100, (len(labels), SIDE, SIDE, 1))
    images = (images + 60 * labels[:, None, None, None]).astype("uint8")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        return train(small(name), labels, images, folder, steps, images_per_class=m // CLASSES)


once_trained = functools.cache(trained)


def one_for_each_head():
    """Lists one method for each distinct pair of hash head and class layer."""
    found = {}
    for name in methods.METHODS:
        method = methods.get(name)
        layers = method.head(BITS), method.classifier(CLASSES)
        kind = [[type(each).__name__, each.get_config()] for each in layers]
        found.setdefault(json.dumps(kind, default=str, sort_keys=True), name)
    return [*found.values()]
