"""The network's building blocks: tensors in, tensors out, in `keras.ops`."""

import keras
import numpy as np
from keras import ops

PACKAGE = "dah_tf"


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation over the last axis with statistics of the global batch.

    Same weights, arguments and values as `keras.layers.BatchNormalization(synchronized=True)`;
    under JAX the batch is one array, however it is sharded, and needs no synchronising.
    On one TensorFlow replica the statistics, the normalisation and their gradient run as one
    fused operation, about five times faster on a CPU. Statistics are float32 under every
    precision policy.

    Args:
        momentum: float, weight of the old moving statistics in an update.
        epsilon: float, added to the variance.
        **kwargs: as `keras.layers.BatchNormalization`; `axis` stays -1.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.
        training: bool; True normalises with the batch's own statistics.

    Returns:
        Tensor of the inputs' shape in the layer's compute dtype.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        kwargs["synchronized"] = keras.backend.backend() == "tensorflow"
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        fused = training and self.trainable and mask is None and len(inputs.shape) == 4
        if not (fused and _one_tensorflow_replica()):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        inputs = ops.cast(inputs, self.compute_dtype)
        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(self.gamma) if self.scale else tf.ones([channels]),
            offset=ops.convert_to_tensor(self.beta) if self.center else tf.zeros([channels]),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation reports the unbiased variance, Keras' moving one is the biased.
        count = tf.cast(tf.size(inputs) // channels, "float32")
        variance = variance * (count - 1.0) / count
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs

    def get_config(self):
        config = super().get_config()
        # Follows the back end that the layer is made under, not the one it was saved from.
        del config["synchronized"]
        return config


def _one_tensorflow_replica():
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync == 1


@keras.saving.register_keras_serializable(PACKAGE)
class ShrinkSigmoid(keras.layers.Layer):
    """`1/4 + 1/(2(1 + exp(-x)))`, from the reals to [1/4, 3/4], in float32.

    Call arguments:
        inputs: float tensor of any shape.

    Returns:
        float32 tensor of the inputs' shape.

    References:
        DAH (IEEE Access 2020), eq. 1.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, inputs):
        return 0.25 + 0.5 * ops.sigmoid(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(PACKAGE)
class HashHead(keras.layers.Layer):
    """Features to hash values: `Dense(bits)` and the shrink-sigmoid, in float32.

    A bit is 1 where its logit is above 0, which is where its value is above 1/2.

    Args:
        bits: int, code length k.

    Call arguments:
        inputs: float tensor of shape `(n, features)`.

    Returns:
        Pair of float32 tensors of shape `(n, bits)`: logits, and values in [1/4, 3/4].
    """

    def __init__(self, bits, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if bits < 1:
            raise ValueError(f"`bits` must be at least 1. Received: bits={bits}")
        self.bits = bits
        self.dense = keras.layers.Dense(bits, dtype=self.dtype_policy, name="dense")
        self.activation = ShrinkSigmoid(name="shrink_sigmoid")

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        logits = self.dense(ops.cast(inputs, "float32"))
        return logits, self.activation(logits)

    def compute_output_shape(self, input_shape):
        shape = (*input_shape[:-1], self.bits)
        return shape, shape

    def get_config(self):
        return {**super().get_config(), "bits": self.bits}


@keras.saving.register_keras_serializable(PACKAGE)
class ChannelAttention(keras.layers.Layer):
    """Weights each channel by a sigmoid of its average and its maximum over the image.

    Both pooled vectors go through one MLP (`channels / reduction` hidden units, ReLU, biases);
    the two outputs are summed.

    Args:
        reduction: int, ratio of channels to hidden units.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.

    Returns:
        Tensor of the inputs' shape.

    References:
        CBAM (Woo et al., ECCV 2018), eq. 2.
    """

    def __init__(self, reduction=8, **kwargs):
        super().__init__(**kwargs)
        if reduction < 1:
            raise ValueError(f"`reduction` must be at least 1. Received: reduction={reduction}")
        self.reduction = reduction

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = max(1, channels // self.reduction)
        options = {"dtype": self.dtype_policy}
        self.squeeze = keras.layers.Dense(hidden, activation="relu", name="squeeze", **options)
        self.excite = keras.layers.Dense(channels, name="excite", **options)
        self.squeeze.build((None, channels))
        self.excite.build((None, hidden))

    def call(self, inputs):
        average = self.excite(self.squeeze(ops.mean(inputs, axis=(1, 2))))
        maximum = self.excite(self.squeeze(ops.max(inputs, axis=(1, 2))))
        weights = ops.sigmoid(average + maximum)
        return inputs * weights[:, None, None, :]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable(PACKAGE)
class SpatialAttention(keras.layers.Layer):
    """Weights each position by a sigmoid of a convolution over its channel mean and maximum.

    Args:
        kernel_size: int, side of the convolution's window (no bias).

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.

    Returns:
        Tensor of the inputs' shape.

    References:
        CBAM (Woo et al., ECCV 2018), eq. 3.
    """

    def __init__(self, kernel_size=7, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size

    def build(self, input_shape):
        self.conv = keras.layers.Conv2D(
            1,
            self.kernel_size,
            padding="same",
            use_bias=False,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build((*input_shape[:-1], 2))

    def call(self, inputs):
        mean = ops.mean(inputs, axis=-1, keepdims=True)
        maximum = ops.max(inputs, axis=-1, keepdims=True)
        return inputs * ops.sigmoid(self.conv(ops.concatenate([mean, maximum], axis=-1)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable(PACKAGE)
class CBAM(keras.layers.Layer):
    """Channel attention, then spatial attention.

    Args:
        reduction: int, of the channel attention.
        kernel_size: int, of the spatial attention.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.

    Returns:
        Tensor of the inputs' shape.

    References:
        CBAM (Woo et al., ECCV 2018), eq. 1.
    """

    def __init__(self, reduction=8, kernel_size=7, **kwargs):
        super().__init__(**kwargs)
        self.reduction = reduction
        self.kernel_size = kernel_size
        self.channel = ChannelAttention(reduction, dtype=self.dtype_policy, name="channel")
        self.spatial = SpatialAttention(kernel_size, dtype=self.dtype_policy, name="spatial")

    def build(self, input_shape):
        self.channel.build(input_shape)
        self.spatial.build(input_shape)

    def call(self, inputs):
        return self.spatial(self.channel(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"reduction": self.reduction, "kernel_size": self.kernel_size}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(PACKAGE)
class SeparableBottleneck(keras.layers.Layer):
    """ResNet's bottleneck block with a depthwise separable 3x3 convolution.

    1x1 convolution, BN, ReLU; separable 3x3 convolution with the stride, BN, ReLU; 1x1
    convolution to `4 * width`, BN; the shortcut is added; ReLU. No convolution has a bias.

    Args:
        width: int, channels inside the block.
        stride: int, of the 3x3 convolution and the projection.
        project: bool, whether the shortcut is a 1x1 convolution and BN instead of the identity.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.
        training: bool.

    Returns:
        Tensor of shape `(n, ceil(h / stride), ceil(w / stride), 4 * width)`.

    Raises:
        ValueError: the identity cannot carry a stride or a change of channels.

    References:
        DAH, Table 1; Xception (Chollet, CVPR 2017).
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

        def norm(name):
            return BatchNorm(dtype=self.dtype_policy, name=name)

        self.reduce = conv(width, 1, "reduce")
        self.reduce_norm = norm("reduce_norm")
        self.separable = keras.layers.SeparableConv2D(
            width, 3, strides=stride, name="separable", **options
        )
        self.separable_norm = norm("separable_norm")
        self.expand = conv(4 * width, 1, "expand")
        self.expand_norm = norm("expand_norm")
        if project:
            self.shortcut = conv(4 * width, stride, "shortcut")
            self.shortcut_norm = norm("shortcut_norm")

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
        x = ops.relu(self.reduce_norm(self.reduce(inputs), training=training))
        x = ops.relu(self.separable_norm(self.separable(x), training=training))
        x = self.expand_norm(self.expand(x), training=training)
        if self.project:
            inputs = self.shortcut_norm(self.shortcut(inputs), training=training)
        return ops.relu(x + inputs)

    def compute_output_shape(self, input_shape):
        size = [None if d is None else -(-d // self.stride) for d in input_shape[1:3]]
        return (input_shape[0], *size, 4 * self.width)

    def get_config(self):
        config = {"width": self.width, "stride": self.stride, "project": self.project}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(PACKAGE)
class PartialIdentity(keras.initializers.Initializer):
    """3x3 kernel: the identity on the first `min(in, out)` channels, He-uniform elsewhere.

    References:
        Dirac initialisation in Jordan, "94% on CIFAR-10 in 3.29 seconds" (arXiv 2404.00498).
    """

    def __init__(self, seed=None):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        height, width, channels_in, channels_out = shape
        # PyTorch's default: uniform in +-1/sqrt(fan in).
        bound = (height * width * channels_in) ** -0.5
        kernel = keras.random.uniform(shape, -bound, bound, dtype="float32", seed=self.seed)
        identity = np.zeros(shape, np.float32)
        keep = np.ones(shape, np.float32)
        n = min(channels_in, channels_out)
        keep[..., :n] = 0.0
        identity[height // 2, width // 2, np.arange(n), np.arange(n)] = 1.0
        return ops.cast(kernel * keep + identity, dtype or "float32")

    def get_config(self):
        return {"seed": self.seed}


@keras.saving.register_keras_serializable(PACKAGE)
class PixelTransform(keras.layers.Layer):
    """`scale * x + offset` for each channel, after an optional swap of RGB to BGR.

    Args:
        scale: three floats.
        offset: three floats.
        reverse: bool, whether the channels' order is reversed first.

    Call arguments:
        inputs: tensor of shape `(n, h, w, 3)`, 0..255.
    """

    def __init__(self, scale, offset, reverse=False, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.offset, self.reverse = list(scale), list(offset), reverse

    @classmethod
    def like(cls, preprocess, **kwargs):
        """The transform that equals a Keras Applications `preprocess_input` function."""

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
