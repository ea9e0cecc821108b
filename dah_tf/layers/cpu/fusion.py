"""Element-wise functions and reductions as one pass over memory, for training on CPUs.

TensorFlow's operations each read and write whole tensors, and in bfloat16 its CPU kernels are
slower than in float32. XLA makes one loop of a function, vectorised where its tensors' last axis
is walked.
"""

import functools

import keras
from keras import ops

from dah_tf.layers.package import PACKAGE

# Where `total` and `largest` stop halving: what is left is reduced in another loop.
FEWEST_ROWS, FEWEST_CHANNELS = 8, 32


def on_cpu():
    """Whether the back end computes on the CPU alone."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU")
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    return False


def one_replica():
    """Whether TensorFlow is the back end and computes on one device."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync == 1


def pays():
    """Whether `compiled` functions beat TensorFlow's operations: on a CPU."""
    return keras.backend.backend() == "tensorflow" and on_cpu()


def compiled(function):
    """The function as one XLA computation; `pays` says where it is of use.

    Args:
        function: of tensors, in `keras.ops`.

    Returns:
        Function of the same tensors. TensorFlow is imported when it is first called.
    """
    made = []

    def call(*inputs):
        if not made:
            import tensorflow as tf

            made.append(tf.function(function, jit_compile=True, autograph=False))
        return made[0](*inputs)

    return call


def fused(function, gradient=None):
    """An element-wise function that in training on a CPU is one pass, and its gradient another.

    Args:
        function: of tensors of one shape and dtype, in `keras.ops`, to one tensor of that dtype:
            element-wise, or of some of the elements. The compiled one computes in float32.
        gradient: function of the outputs and their gradient, both float32, to the gradient of
            each input, where all are the same; None differentiates `function` from its inputs.

    Returns:
        Function of the same tensors; it is differentiable once where `pays`.
    """

    def in_float32(*inputs):
        outputs = function(*(ops.cast(each, "float32") for each in inputs))
        return ops.cast(outputs, inputs[0].dtype)

    def differentiated(inputs, outputs_gradient):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = in_float32(*inputs)
        return tape.gradient(outputs, inputs, outputs_gradient)

    def given(outputs, outputs_gradient):
        found = gradient(ops.cast(outputs, "float32"), ops.cast(outputs_gradient, "float32"))
        return ops.cast(found, outputs.dtype)

    forward = compiled(in_float32)
    backward = compiled(differentiated if gradient is None else given)

    def call(*inputs):
        if not pays():
            return function(*inputs)
        import tensorflow as tf

        @tf.custom_gradient
        def both(*inputs):
            outputs = forward(*inputs)
            if gradient is None:
                return outputs, lambda each: backward(inputs, each)
            return outputs, lambda each: [backward(outputs, each)] * len(inputs)

        return both(*inputs)

    return call


def total(x, axis, least):
    """Sum over one axis, which is kept with length 1; for `least` see `_reduced`."""
    return _reduced(x, axis, least, ops.add, ops.sum)


def largest(x, axis, least):
    """Maximum over one axis, which is kept with length 1; for `least` see `_reduced`."""
    return _reduced(x, axis, least, ops.maximum, ops.max)


def _reduced(x, axis, least, combine, reduce):
    """A reduction that first combines the halves of the axis, again and again, as vectors.

    XLA's own loop of a reduction takes numbers one by one on CPUs, and several times as long in
    bfloat16.

    Args:
        x: tensor, float32.
        axis: int.
        least: int, the length up to which the axis is halved.
        combine: function of two tensors.
        reduce: function of a tensor, its axis and `keepdims`, likewise.

    Returns:
        Tensor of length 1 in that axis.
    """
    odd = []
    while x.shape[axis] > least:
        half = x.shape[axis] // 2
        one, other, *rest = ops.split(x, [half, 2 * half], axis=axis)
        odd += rest if x.shape[axis] % 2 else []
        x = combine(one, other)
    return functools.reduce(combine, odd, reduce(x, axis=axis, keepdims=True))


def _rectify(*inputs):
    return ops.relu(sum(inputs[1:], start=inputs[0]))


def _where_positive(outputs, gradient):
    return ops.where(outputs > 0, gradient, 0.0)


_fused_rectify = fused(_rectify, gradient=_where_positive)


def rectified_sum(*inputs, training=False):
    """ReLU of the sum of one or more tensors of one shape and dtype."""
    return (_fused_rectify if training else _rectify)(*inputs)


_add = compiled(ops.add)


def twice(x, training=False):
    """A tensor for two uses, whose gradients are summed in one pass in training on a CPU."""
    if not (training and pays()):
        return x, x
    import tensorflow as tf

    return tf.custom_gradient(lambda x: ((tf.identity(x), tf.identity(x)), _add))(x)


@keras.saving.register_keras_serializable(PACKAGE)
class Activation(keras.layers.Activation):
    """`keras.layers.Activation`, in training on a CPU as one pass over memory.

    Args:
        activation: as `keras.layers.Activation`.

    Call arguments:
        inputs: float tensor of any shape.
        training: bool.

    Returns:
        Tensor of the inputs' shape.
    """

    def __init__(self, activation, **kwargs):
        super().__init__(activation, **kwargs)
        relu = self.activation is keras.activations.relu
        self._fused = _fused_rectify if relu else fused(self.activation)

    def call(self, inputs, training=None):
        return self._fused(inputs) if training else self.activation(inputs)
