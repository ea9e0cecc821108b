"""The block of ResNet30."""

import keras

from dah_tf.layers.cpu.fusion import twice
from dah_tf.layers.normalization import BatchNorm, normalized
from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class SeparableBottleneck(keras.layers.Layer):
    """A bottleneck block of ResNet with a depthwise separable 3x3 convolution.

    The operations in order are: 1x1 convolution, BN, ReLU; separable 3x3 convolution with the
    stride, BN, ReLU; 1x1 convolution to `4 * width`, BN; addition of the shortcut; ReLU. The
    convolutions have no bias. The scale of the last normalisation starts at 0.1, so that the block
    starts close to its shortcut. This makes the start of a training much faster.

    Args:
        width: int, the number of channels inside the block.
        stride: int, the stride of the 3x3 convolution and of the projection.
        project: bool, whether the shortcut is a 1x1 convolution and BN instead of the identity.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.
        training: bool.

    Returns:
        Tensor of shape `(n, ceil(h / stride), ceil(w / stride), 4 * width)`.

    Raises:
        ValueError: the shortcut is the identity, but there is a stride or a change of channels.

    References:
        DAH, Table 1. Xception (Chollet, CVPR 2017). Goyal et al., arXiv 1706.02677, section 5.1,
        start the scale at 0. At 0.1 every kernel has a gradient already in the first step.
    """

    def __init__(self, width, stride=1, project=False, **kwargs):
        super().__init__(**kwargs)
        if stride != 1 and not project:
            raise ValueError(f"A stride needs `project=True`. Received: stride={stride}")
        self.width = width
        self.stride = stride
        self.project = project
        options = {"use_bias": False, "padding": "same", "dtype": self.dtype_policy}

        def conv(filters, stride, name):
            return keras.layers.Conv2D(filters, 1, strides=stride, name=name, **options)

        def norm(name, rectify=True, **options):
            return BatchNorm(rectify=rectify, dtype=self.dtype_policy, name=name, **options)

        self.reduce = conv(width, 1, "reduce")
        self.reduce_norm = norm("reduce_norm")
        self.separable = keras.layers.SeparableConv2D(
            width, 3, strides=stride, name="separable", **options
        )
        self.separable_norm = norm("separable_norm")
        self.expand = conv(4 * width, 1, "expand")
        self.expand_norm = norm("expand_norm", gamma_initializer=keras.initializers.Constant(0.1))
        if project:
            self.shortcut = conv(4 * width, stride, "shortcut")
            self.shortcut_norm = norm("shortcut_norm", rectify=False)

    def build(self, input_shape):
        if not self.project and input_shape[-1] != 4 * self.width:
            raise ValueError(
                f"An identity shortcut needs {4 * self.width} input channels. "
                f"Received: input_shape={input_shape}"
            )
        shape = input_shape
        for conv, norm in (
            (self.reduce, self.reduce_norm),
            (self.separable, self.separable_norm),
            (self.expand, self.expand_norm),
        ):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            norm.build(shape)
        if self.project:
            self.shortcut.build(input_shape)
            self.shortcut_norm.build(shape)

    def call(self, inputs, training=None):
        inputs, shortcut = twice(inputs, training)
        if self.project:
            shortcut = normalized(self.shortcut, self.shortcut_norm, shortcut, training)
        x = normalized(self.reduce, self.reduce_norm, inputs, training)
        x = normalized(self.separable, self.separable_norm, x, training)
        return normalized(self.expand, self.expand_norm, x, training, residual=shortcut)

    def compute_output_shape(self, input_shape):
        size = [None if d is None else -(-d // self.stride) for d in input_shape[1:3]]
        return (input_shape[0], *size, 4 * self.width)

    def get_config(self):
        config = {"width": self.width, "stride": self.stride, "project": self.project}
        return {**super().get_config(), **config}
