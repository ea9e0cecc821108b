"""1x1 and depthwise convolutions whose gradients are fast on a CPU."""

import functools

import keras
from keras import ops

from dah_tf.layers.cpu import fusion


def convolve(conv, inputs):
    """Computes a convolution without bias and activation by operations that train fast.

    On a CPU under TensorFlow, the gradient of a 1x1 kernel is computed as a matrix product. A
    convolution with a stride is computed without it, and then positions are left out. TensorFlow's
    own gradients of these take two to twenty times as long. In all other cases the layer itself is
    called.

    Args:
        conv: built `keras.layers.Conv2D` or `SeparableConv2D` with one stride for both axes. The
            faster way is taken for kernels of 1x1 (3x3 if separable) with padding "same" and no
            bias.
        inputs: float tensor of shape `(n, h, w, channels)`, of the layer's compute dtype.

    Returns:
        Tensor of shape `(n, ceil(h / stride), ceil(w / stride), filters)`.
    """
    if not (_covered(conv) and fusion.pays()) or None in inputs.shape[1:3]:
        return conv(inputs)
    stride = conv.strides[0]
    if isinstance(conv, keras.layers.SeparableConv2D):
        kernel = ops.cast(conv.depthwise_kernel, inputs.dtype)
        x = ops.depthwise_conv(inputs, kernel, 1, "same", data_format="channels_last")
        # Padding "same" adds the larger half of the zeros at the end.
        added = [max((-(-side // stride) - 1) * stride + 3 - side, 0) for side in x.shape[1:3]]
        first = [1 - each // 2 for each in added]
        return _product(_every(stride, *first)(x), ops.cast(conv.pointwise_kernel, inputs.dtype))
    return _product(_every(stride, 0, 0)(inputs), ops.cast(conv.kernel, inputs.dtype))


def _covered(conv):
    separable = isinstance(conv, keras.layers.SeparableConv2D)
    return (
        conv.kernel_size == ((3, 3) if separable else (1, 1))
        and conv.padding == "same"
        and set(conv.dilation_rate) == {1}
        and (separable or conv.groups == 1)
        and not conv.use_bias
        and conv.activation is keras.activations.linear
    )


@functools.cache
def _every(stride, top, left):
    """Returns a function that keeps every `stride`-th row and column."""
    if stride == 1:
        return lambda x: x
    return fusion.fused(lambda x: x[:, top::stride, left::stride])


def _product(x, kernel):
    """Computes a 1x1 convolution of stride 1."""
    import tensorflow as tf

    @tf.custom_gradient
    def both(x, kernel):
        def gradient(outputs):
            rows = tf.reshape(x, (-1, x.shape[-1]))
            columns = tf.reshape(outputs, (-1, outputs.shape[-1]))
            of_kernel = tf.matmul(rows, columns, transpose_a=True)
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x),
                filter=kernel,
                out_backprop=outputs,
                strides=[1, 1, 1, 1],
                padding="VALID",
            )
            return of_inputs, tf.reshape(of_kernel, kernel.shape)

        return tf.nn.conv2d(x, kernel, 1, "VALID"), gradient

    return both(x, kernel)
