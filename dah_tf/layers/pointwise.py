"""1x1 and depthwise convolutions whose gradients are fast on a CPU."""

import keras
from keras import ops

from dah_tf.layers import fusion


def convolve(conv, inputs):
    """What a convolution without bias and activation returns, by operations fast in training.

    On a CPU under TensorFlow, the gradient of a 1x1 kernel is a matrix product, and a stride
    leaves out positions of the convolution without it: TensorFlow's own gradients of these take
    two to twenty times as long. Elsewhere it is the layer's own call.

    Args:
        conv: built `keras.layers.Conv2D` with a 1x1 kernel, or `keras.layers.SeparableConv2D`
            with a 3x3 kernel; no bias, padding "same", one stride for both axes.
        inputs: float tensor of shape `(n, h, w, channels)`, of the layer's compute dtype.

    Returns:
        Tensor of shape `(n, ceil(h / stride), ceil(w / stride), filters)`.
    """
    if not fusion.pays() or None in inputs.shape[1:3]:
        return conv(inputs)
    stride = conv.strides[0]
    if isinstance(conv, keras.layers.SeparableConv2D):
        kernel = ops.cast(conv.depthwise_kernel, inputs.dtype)
        x = ops.depthwise_conv(inputs, kernel, 1, "same", data_format="channels_last")
        # Of the zeros that "same" adds, the larger half is at the end.
        added = [max((-(-side // stride) - 1) * stride + 3 - side, 0) for side in x.shape[1:3]]
        first = [1 - each // 2 for each in added]
        return _product(_every(x, stride, first), ops.cast(conv.pointwise_kernel, inputs.dtype))
    return _product(_every(inputs, stride, (0, 0)), ops.cast(conv.kernel, inputs.dtype))


def _every(x, stride, first):
    """Every `stride`-th row and column."""
    if stride == 1:
        return x
    top, left = first

    def take(x):
        return x[:, top::stride, left::stride]

    def spread(x, gradient):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            taken = take(x)
        return tape.gradient(taken, x, gradient)

    return _custom(fusion.compiled(take), fusion.compiled(spread))(x)


def _custom(forward, backward):
    import tensorflow as tf

    @tf.custom_gradient
    def both(x):
        return forward(x), lambda gradient: backward(x, gradient)

    return both


def _product(x, kernel):
    """1x1 convolution of stride 1."""
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
