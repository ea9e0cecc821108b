"""A hash layer that sees the regions of an image class by class."""

import keras
from keras import ops

from dah_tf.layers.package import PACKAGE
from dah_tf.layers.slices import SlicedHash


@keras.saving.register_keras_serializable(PACKAGE)
class RegionHash(SlicedHash):
    """Groups the features of regions by the classes they show, and hashes the groups, in float32.

    The regions of an image are the positions of its feature map, and those of the map after a 2x2
    max pooling. A region r has the channels f_r as its features, divided by the square root of
    their number. A linear function of f_r, times 8, gives the log-odds of each class c, and p_rc is
    the probability. The group of class c is

        z_c = max_r p_rc f_r,

    and all groups together are the input of a `SlicedHash`.

    Args:
        bits: int, the code length k.
        classes: int, the number of classes.
        width: int, the number of features of a slice.

    Attributes:
        takes_map: True, see `Method.head`.
        activation: the layer that turns logits into values.
        span: pair of floats, the lowest and the highest value.

    Call arguments:
        inputs: pair of float tensors of shape `(n, features)` and `(n, h, w, channels)`. The first
            is not used.

    Returns:
        Pair of float32 tensors of shape `(n, bits)`: logits, and values in [0, 1].

    Raises:
        ValueError: an argument is below 1.

    References:
        Lai, Yan, Shu, Wei and Yan, "Instance-aware hashing for multi-label image retrieval", IEEE
        TIP 2016.
    """

    takes_map = True

    def __init__(self, bits, classes, width=50, **kwargs):
        super().__init__(bits, width, **kwargs)
        if classes < 1:
            raise ValueError(f"`classes` must be at least 1. Received: classes={classes}")
        self.classes = classes
        self.scores = keras.layers.Dense(classes, dtype=self.dtype_policy, name="scores")

    def build(self, input_shape):
        channels = input_shape[1][-1]
        self.scores.build((None, channels))
        super().build((None, self.classes * channels))

    def regions(self, found):
        """Returns the features of the regions, and their log-odds of the classes.

        Args:
            found: float tensor of shape `(n, h, w, channels)`.

        Returns:
            Pair of float32 tensors of shape `(n, regions, channels)` and `(n, regions, classes)`.
        """
        found = ops.cast(found, "float32") / found.shape[-1] ** 0.5
        _, height, width, channels = ops.shape(found)
        scales = [ops.reshape(found, (-1, height * width, channels))]
        if height > 1 and width > 1:
            wide = ops.max_pool(found, 2, 2)
            parts = (height // 2) * (width // 2)
            scales.append(ops.reshape(wide, (-1, parts, channels)))
        features = ops.concatenate(scales, axis=1)
        return features, self.scores(8.0 * features)

    def groups(self, found):
        """Returns the grouped features z, a float32 tensor of shape `(n, classes, channels)`."""
        features, scores = self.regions(found)
        p = ops.expand_dims(ops.sigmoid(scores), -1)
        return ops.max(p * ops.expand_dims(features, 2), axis=1)

    def call(self, inputs):
        groups = self.groups(inputs[1])
        return super().call(ops.reshape(groups, (-1, self.classes * groups.shape[-1])))

    def more(self, found, pool):
        """Returns the log-odds that some region shows a class: `regions` of shape `(n, classes)`."""
        return {"regions": ops.max(self.regions(found)[1], axis=1)}

    def compute_output_shape(self, input_shape):
        return super().compute_output_shape(input_shape[0])

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}
