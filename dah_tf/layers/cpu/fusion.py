"""Element-wise functions and reductions in one pass over memory, for training on CPUs.

Each operation of TensorFlow reads and writes whole tensors, and its CPU kernels are slower in
bfloat16 than in float32. XLA compiles a whole function to one loop. The loop is vectorised if it
runs along the last axis of the tensors.
"""

import functools

import keras
from keras import ops

from dah_tf.layers.package import PACKAGE

# `total` and `largest` halve an axis down to these lengths. Another loop reduces the rest.
FEWEST_ROWS, FEWEST_CHANNELS = 8, 32


def on_cpu():
    """Says whether the back end computes only on the CPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU")
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    return False


def one_replica():
    """Says whether the back end is TensorFlow and computes on one device."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync == 1


def pays():
    """Says whether `compiled` functions are faster than TensorFlow's operations: on a CPU."""
    return keras.backend.backend() == "tensorflow" and on_cpu()


def compiled(function):
    """Compiles a function to one XLA computation; `pays` says when this is useful.

    Args:
        function: function of tensors, written in `keras.ops`.

    Returns:
        Function of the same tensors. Its first call imports TensorFlow.
    """
    made = []

    def call(*inputs):
        if not made:
            import tensorflow as tf

            made.append(tf.function(function, jit_compile=True, autograph=False))
        return made[0](*inputs)

    return call


def fused(function, gradient=None):
    """Makes one pass over memory of an element-wise function, and one of its gradient.

    This applies on a CPU, as `pays` says.

    Args:
        function: function of tensors of the same shape and dtype, written in `keras.ops`, that
            returns one tensor of that dtype. It is element-wise, or selects some of the elements.
            The compiled function computes in float32.
        gradient: function that takes the outputs and their gradient, both in float32, and returns
            the gradient that all inputs share. With None, `function` is differentiated.

    Returns:
        Function of the same tensors. If `pays` is true, it can be differentiated once.
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
    """Returns the sum over an axis, which keeps the length 1. For `least` see `_reduced`."""
    return _reduced(x, axis, least, ops.add, ops.sum)


def largest(x, axis, least):
    """Returns the maximum over an axis, which keeps the length 1. For `least` see `_reduced`."""
    return _reduced(x, axis, least, ops.maximum, ops.max)


def _reduced(x, axis, least, combine, reduce):
    """Reduces an axis by repeatedly combining its two halves as vectors.

    On CPUs, XLA's own loop for a reduction takes the numbers one by one, and takes several times
    as long in bfloat16.

    Args:
        x: float32 tensor.
        axis: int.
        least: int. The axis is halved until its length is not above this.
        combine: function of two tensors, such as `ops.add`.
        reduce: the same operation over an axis, such as `ops.sum`.

    Returns:
        Tensor in which the axis has length 1.
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
    """Returns the ReLU of the sum of one or more tensors of the same shape and dtype."""
    return (_fused_rectify if training else _rectify)(*inputs)


_add = compiled(ops.add)


def twice(x, training=False):
    """Returns a tensor twice. In training on a CPU, one pass adds the gradients of both uses."""
    if not (training and pays()):
        return x, x
    import tensorflow as tf

    return tf.custom_gradient(lambda x: ((tf.identity(x), tf.identity(x)), _add))(x)


@keras.saving.register_keras_serializable(PACKAGE)
class Activation(keras.layers.Activation):
    """`keras.layers.Activation` that makes one pass over memory in training on a CPU.

    Args:
        activation: the argument of `keras.layers.Activation`.

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
