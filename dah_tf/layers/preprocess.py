"""A layer that preprocesses pixels."""

import keras
import numpy as np
from keras import ops

from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class PixelTransform(keras.layers.Layer):
    """Computes `scale * x + offset` for each channel, after an optional swap of RGB to BGR.

    Args:
        scale: three floats.
        offset: three floats.
        reverse: bool, whether the order of the channels is reversed first.

    Call arguments:
        inputs: tensor of shape `(n, h, w, 3)`, 0..255.
    """

    def __init__(self, scale, offset, reverse=False, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.offset, self.reverse = list(scale), list(offset), reverse

    @classmethod
    def like(cls, preprocess, **kwargs):
        """Makes the transform that equals a `preprocess_input` function of Keras Applications."""

        def at(pixel):
            return np.asarray(preprocess(np.array(pixel, np.float32).reshape(1, 1, 1, 3))).ravel()

        black, white, red = at([0, 0, 0]), at([255, 255, 255]), at([255, 0, 0])
        reverse = not np.isclose(red[0], white[0])
        return cls(
            [float(v) for v in (white - black) / 255.0],
            [float(v) for v in black],
            reverse,
            **kwargs,
        )

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        x = ops.flip(x, axis=-1) if self.reverse else x
        return ops.cast(x * np.float32(self.scale) + np.float32(self.offset), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"scale": self.scale, "offset": self.offset, "reverse": self.reverse}
        return {**super().get_config(), **config}
