"""Batch normalisation with the same values on every device, which is fast on a CPU."""

import functools

import keras
from keras import ops

from dah_tf.layers.cpu import fusion
from dah_tf.layers.cpu.pointwise import convolve
from dah_tf.layers.package import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation over the last axis with statistics of the global batch.

    The weights, the arguments and the values are those of
    `keras.layers.BatchNormalization(synchronized=True)`. Under JAX nothing has to be synchronised,
    because the batch is one array, even if it is distributed. The statistics are float32 under
    every precision policy.

    On one TensorFlow replica, training is several times as fast as with the layer of Keras, because
    it uses TensorFlow's fused operations. If a residual or a ReLU follows, it uses compiled loops
    on a CPU, which also compute the residual and the ReLU.

    Args:
        momentum: float, the weight of the old moving statistics in an update.
        epsilon: float that is added to the variance.
        rectify: bool, whether a ReLU follows.
        **kwargs: arguments of `keras.layers.BatchNormalization`, without `axis`, which is -1.

    Call arguments:
        inputs: float tensor of shape `(n, h, w, channels)`.
        training: bool. True normalises with the statistics of the batch.
        residual: None, or a tensor of the inputs' shape that is added before the ReLU.

    Returns:
        Tensor of the inputs' shape in the layer's compute dtype.

    References:
        Ioffe and Szegedy, "Batch Normalization" (ICML 2015).
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, rectify=False, **kwargs):
        kwargs["synchronized"] = keras.backend.backend() == "tensorflow"
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)
        self.rectify = rectify

    def call(self, inputs, training=None, mask=None, residual=None):
        fused = training and self.trainable and mask is None and len(inputs.shape) == 4
        if not (fused and fusion.one_replica()):
            return self.finish(super().call(inputs, training=training, mask=mask), residual)
        inputs = ops.cast(inputs, self.compute_dtype)
        channels = inputs.shape[-1]
        scale = ops.convert_to_tensor(self.gamma) if self.scale else ops.ones([channels])
        offset = ops.convert_to_tensor(self.beta) if self.center else ops.zeros([channels])
        followed = self.rectify or residual is not None
        if followed and fusion.pays() and None not in inputs.shape:
            loops = _loops(self.epsilon, self.rectify)
            outputs, mean, variance = _in_loops(loops, inputs, scale, offset, residual)
        else:
            outputs, mean, variance = _in_operations(self.epsilon, inputs, scale, offset)
            outputs = self.finish(outputs, residual, training)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs

    def finish(self, outputs, residual=None, training=False):
        """Adds the residual to normalised inputs and applies the ReLU."""
        outputs = [outputs] if residual is None else [outputs, residual]
        if self.rectify:
            return fusion.rectified_sum(*outputs, training=training)
        return sum(outputs[1:], start=outputs[0])

    def get_config(self):
        config = {**super().get_config(), "rectify": self.rectify}
        # The back end at the time of loading decides, not the one at the time of saving.
        del config["synchronized"]
        return config


def _in_operations(epsilon, inputs, scale, offset):
    """Computes outputs, mean and biased variance by TensorFlow's fused operation."""
    import tensorflow as tf

    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=scale,
        offset=offset,
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=epsilon,
        is_training=True,
    )
    # The operation returns the unbiased variance, but the moving variance of Keras is biased.
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
    return outputs, mean, variance * (count - 1.0) / count


def _in_loops(loops, inputs, scale, offset, residual):
    """Computes outputs, mean and biased variance by compiled loops."""
    import tensorflow as tf

    statistics, normalise, of_weights, of_inputs = loops
    mean, variance = statistics(inputs)

    @tf.custom_gradient
    def both(inputs, scale, offset, *residual):
        outputs = normalise(inputs, mean, variance, scale, offset, *residual)

        def gradient(found):
            of_scale, of_offset = of_weights(inputs, mean, variance, outputs, found)
            of_sums = inputs, mean, variance, scale, of_scale, of_offset, outputs, found
            of_input, *of_residual = of_inputs(*of_sums, bool(residual))
            return of_input, of_scale, of_offset, *of_residual

        return outputs, gradient

    residual = [] if residual is None else [residual]
    outputs = both(inputs, tf.identity(scale), tf.identity(offset), *residual)
    return outputs, mean, variance


@functools.cache
def _loops(epsilon, rectify):
    """Returns the compiled loops: statistics, outputs, gradients of weights and of inputs."""

    def total(x):
        n, *sides, channels = x.shape
        rows = ops.reshape(x, (n, sides[0] * sides[1], channels))
        return ops.sum(fusion.total(rows, 1, fusion.FEWEST_ROWS), axis=(0, 1))

    def statistics(x):
        x = ops.cast(x, "float32")
        count = x.shape[0] * x.shape[1] * x.shape[2]
        mean = total(x) / count
        return mean, total(ops.square(x - mean)) / count

    def scaled(x, mean, variance):
        return (ops.cast(x, "float32") - mean) * ops.rsqrt(variance + epsilon)

    def normalise(x, mean, variance, scale, offset, residual=None):
        outputs = scaled(x, mean, variance) * scale + offset
        if residual is not None:
            outputs = outputs + ops.cast(residual, "float32")
        return ops.cast(ops.relu(outputs) if rectify else outputs, x.dtype)

    def through(outputs, gradient):
        gradient = ops.cast(gradient, "float32")
        return ops.where(outputs > 0, gradient, 0.0) if rectify else gradient

    def of_weights(x, mean, variance, outputs, gradient):
        gradient = through(outputs, gradient)
        return total(gradient * scaled(x, mean, variance)), total(gradient)

    def of_inputs(x, mean, variance, scale, of_scale, of_offset, outputs, gradient, has_residual):
        gradient = through(outputs, gradient)
        count = x.shape[0] * x.shape[1] * x.shape[2]
        shared = (of_offset + scaled(x, mean, variance) * of_scale) / count
        found = (gradient - shared) * scale * ops.rsqrt(variance + epsilon)
        found = [found, gradient] if has_residual else [found]
        return [ops.cast(each, x.dtype) for each in found]

    return [fusion.compiled(each) for each in (statistics, normalise, of_weights, of_inputs)]


def normalized(conv, norm, inputs, training, residual=None):
    """Computes a convolution with its batch normalisation, outside of training as one convolution.

    With the moving statistics, the normalisation is a factor and an offset for each output
    channel. The kernel is multiplied by the factor, so that only the offset needs a pass over the
    outputs.

    Args:
        conv: built `keras.layers.Conv2D` or `SeparableConv2D` without bias.
        norm: built `BatchNorm` of its outputs.
        inputs: float tensor of shape `(n, h, w, channels)`, of the layers' compute dtype.
        training: bool.
        residual: the call argument of `norm`.

    Returns:
        The same as `norm(conv(inputs), training=training, residual=residual)`, up to rounding.
    """
    if training:
        return norm(convolve(conv, inputs), training=training, residual=residual)
    mean, variance, gamma, beta = (
        ops.cast(value, "float32")
        for value in (norm.moving_mean, norm.moving_variance, norm.gamma, norm.beta)
    )
    factor = gamma * ops.rsqrt(variance + norm.epsilon)
    offset = ops.cast(beta - mean * factor, inputs.dtype)

    def scaled(kernel):
        return ops.cast(ops.cast(kernel, "float32") * factor, inputs.dtype)

    options = {"strides": conv.strides, "padding": conv.padding, "data_format": "channels_last"}
    if isinstance(conv, keras.layers.SeparableConv2D):
        depthwise = ops.cast(conv.depthwise_kernel, inputs.dtype)
        pointwise = scaled(conv.pointwise_kernel)
        outputs = ops.separable_conv(inputs, depthwise, pointwise, **options) + offset
    else:
        outputs = ops.conv(inputs, scaled(conv.kernel), **options) + offset
    return norm.finish(outputs, residual)
