"""A hash layer that can also tell the codes of the salient part of an image and of the rest."""

import keras
from keras import ops

from dah_tf.layers.hashing import HashHead
from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class SaliencyHash(HashHead):
    """A `HashHead` with a mask M on the feature map, which says where the image is salient.

    The mask is a sigmoid of a 3x3 convolution over the mean and the maximum of the channels, as in
    the spatial attention of CBAM. The salient part of an image is its map times M, and the
    background is its map times 1 - M. Both are made into features by the end of the backbone and
    then into logits by the layer's own weights. The logits of the image itself do not depend on
    the mask.

    Args:
        bits: int, the code length k.
        activation: as in `HashHead`.

    Call arguments:
        inputs: float tensor of shape `(n, features)`.
        fixed: bool, whether the weights of the bits are constants without a gradient.

    Returns and errors: `HashHead`.

    References:
        Jin, Yao, Sun, Zhou, Zhang and Hua, "Deep saliency hashing for fine-grained retrieval", IEEE
        TIP 2020. Woo et al., "CBAM", ECCV 2018, eq. 3.
    """

    def __init__(self, bits, activation="tanh", **kwargs):
        super().__init__(bits, activation, **kwargs)
        self.attention = keras.layers.Conv2D(
            1, 3, padding="same", dtype=self.dtype_policy, name="attention"
        )

    def build(self, input_shape):
        super().build(input_shape)
        self.attention.build((None, None, None, 2))

    def call(self, inputs, fixed=False):
        if not fixed:
            return super().call(inputs)
        weights = (ops.convert_to_tensor(each) for each in (self.dense.kernel, self.dense.bias))
        kernel, bias = (ops.stop_gradient(each) for each in weights)
        logits = ops.matmul(ops.cast(inputs, "float32"), kernel) + bias
        return logits, self.activation(logits)

    def mask(self, found):
        """Returns the mask M of feature maps, a float32 tensor of shape `(n, h, w, 1)`."""
        mean, largest = ops.mean(found, -1, keepdims=True), ops.max(found, -1, keepdims=True)
        return ops.sigmoid(self.attention(ops.concatenate([mean, largest], axis=-1)))

    def more(self, found, pool):
        """Computes the logits of both parts, with two gradients.

        Args:
            found: float32 tensor of shape `(n, h, w, channels)`, the feature maps of images.
            pool: function from feature maps to features.

        Returns:
            Dict of float32 tensors of shape `(n, bits)`. `salient` and `background` have a gradient
            with respect to the weights of the network and of the bits, and not to those of the
            mask. `salient_mask` and `background_mask` have the same values, and a gradient with
            respect to the weights of the mask only.
        """
        found = ops.cast(found, "float32")
        fixed = ops.stop_gradient(found)
        mask = self.mask(fixed)
        still = ops.stop_gradient(mask)
        return {
            "salient": self(pool(found * still))[0],
            "background": self(pool(found * (1.0 - still)))[0],
            "salient_mask": self(pool(fixed * mask), fixed=True)[0],
            "background_mask": self(pool(fixed * (1.0 - mask)), fixed=True)[0],
        }
