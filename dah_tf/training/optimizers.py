"""This module makes optimisers by name and the schedule of the learning rate."""

import keras
import numpy as np
from keras import ops

from dah_tf import parts
from dah_tf.errors import UserError
from dah_tf.layers import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that first rises linearly and then follows `decay`.

    It rises from `peak / warmup` to `peak` in `warmup` steps.

    Args:
        peak: float, the highest learning rate.
        total: int, the number of steps of the whole run.
        warmup: int, the number of steps in which the rate rises.
        decay: str. With "constant" the rate stays at `peak`. With "linear" and "cosine" it falls
            to `peak * floor` at step `total`.
        floor: float, the final learning rate as a share of `peak`.
    """

    def __init__(self, peak, total, warmup=0, decay="constant", floor=0.0):
        if decay not in ("constant", "linear", "cosine"):
            raise ValueError(f"Unknown `decay`. Received: decay={decay!r}")
        self.peak, self.total, self.warmup = peak, total, warmup
        self.decay, self.floor = decay, floor

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = ops.minimum((step + 1.0) / max(self.warmup, 1), 1.0)
        gone = (step - self.warmup) / max(self.total - self.warmup, 1)
        gone = ops.minimum(ops.maximum(gone, 0.0), 1.0)
        if self.decay == "linear":
            left = 1.0 - gone
        elif self.decay == "cosine":
            left = 0.5 * (1.0 + ops.cos(np.float32(np.pi) * gone))
        else:
            left = ops.ones_like(gone)
        return self.peak * rise * (self.floor + (1.0 - self.floor) * left)

    def get_config(self):
        return {
            "peak": self.peak,
            "total": self.total,
            "warmup": self.warmup,
            "decay": self.decay,
            "floor": self.floor,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class Muon(keras.optimizers.Muon):
    """The Muon optimiser of Keras, applied to convolution kernels too.

    A kernel of shape `(h, w, in, out)` with more than one input channel and more than one output
    channel is orthogonalised as a matrix of shape `(h * w * in, out)`. Every other variable is
    updated by AdamW. The class in Keras leaves 4-D kernels to AdamW.

    Args:
        fixed_norm: bool, whether to hold each such kernel at the Frobenius norm `sqrt(out)`. The
            update at a learning rate of 1 has about the same norm. The learning rate is then the
            relative change of a kernel in a step, at any time of the run. This is meant for
            networks that normalise the output of every convolution. In these networks, the only
            effect of a kernel's norm is that the relative steps shrink as it grows.
        **kwargs: the arguments of `keras.optimizers.Muon`.

    References:
        Jordan et al., "Muon" (2024); Liu et al., arXiv 2502.16982, for the update's scale where
        the norm is free.
    """

    def __init__(self, *args, fixed_norm=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.fixed_norm = fixed_norm

    def _should_use_adamw(self, variable):
        shape = variable.shape
        return len(shape) != 4 or min(shape[2], shape[3]) == 1

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign_add(m, ops.add(gradient, m * (self.momentum - 1)))
        update = ops.add(gradient, self.momentum * m) if self.nesterov else m
        matrix = ops.reshape(update, (-1, variable.shape[-1]))
        matrix = self.zeropower_via_newtonschulz5(matrix, self.ns_steps)
        if not self.fixed_norm:
            self.assign_sub(variable, ops.reshape(self.lr_adjust(lr * matrix), variable.shape))
            return
        norm = ops.sqrt(ops.sum(ops.square(variable)))
        held = variable * (variable.shape[-1] ** 0.5 / ops.maximum(norm, 1e-7))
        self.assign(variable, held - ops.reshape(lr * matrix, variable.shape))

    def get_config(self):
        return {**super().get_config(), "fixed_norm": self.fixed_norm}


def adam(learning_rate, *, weight_decay: float = 0.0):
    """Makes Adam with the betas 0.9 and 0.999, as in the paper.

    If `weight_decay` is not 0, it makes AdamW.
    """
    options = {"weight_decay": weight_decay or None}
    # The names are given here, because Keras adds numbers to names that it chooses, and a
    # checkpoint must agree on the names of the variables.
    if weight_decay:
        return keras.optimizers.AdamW(learning_rate, name="adamw", **options)
    return keras.optimizers.Adam(learning_rate, name="adam", **options)


def sgd(learning_rate, *, momentum: float = 0.9, weight_decay: float = 0.0):
    """Makes stochastic gradient descent with Nesterov's momentum."""
    return keras.optimizers.SGD(
        learning_rate,
        momentum=momentum,
        nesterov=True,
        weight_decay=weight_decay or None,
        name="sgd",
    )


def muon(
    learning_rate,
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    adam_ratio: float = 1.0,
    fixed_norm: bool = False,
    ns_steps: int = 5,
):
    """Makes Muon for convolution kernels, with AdamW for all other variables.

    Args:
        learning_rate: float or schedule.
        momentum: float, the momentum of Muon.
        weight_decay: float, the decoupled weight decay.
        adam_ratio: float, the learning rate of all other variables divided by `learning_rate`.
        fixed_norm: bool, whether each kernel keeps its norm. If it is True, batch normalisation
            must follow every convolution.
        ns_steps: int, the number of Newton-Schulz steps of the orthogonalisation. Their matrix
            products are a fixed cost of each update, and 3 to 5 steps are usual.
    """
    if ns_steps < 1:
        raise ValueError(f"ns_steps must be at least 1. Received: ns_steps={ns_steps}")
    return Muon(
        learning_rate,
        momentum=momentum,
        weight_decay=weight_decay or None,
        adam_weight_decay=weight_decay or None,
        adam_beta_2=0.98,
        ns_steps=ns_steps,
        adam_lr_ratio=adam_ratio,
        fixed_norm=fixed_norm,
        name="muon",
    )


OPTIMIZERS = {"adam": adam, "sgd": sgd, "muon": muon}


def get(text: str, learning_rate) -> keras.optimizers.Optimizer:
    """Makes an optimiser from its text, such as "muon:ns_steps=3,fixed_norm".

    Weight decay is decoupled. It is not applied to biases and to the weights of normalisation
    layers.

    Args:
        text: str, a name in `OPTIMIZERS` and its options.
        learning_rate: float or schedule.

    Raises:
        UserError: the name or an option is unknown, or a value is out of its range.
    """
    spec = parts.parse(text)
    given = parts.arguments("optimizer", spec, parts.factory("optimizer", spec.name, OPTIMIZERS))
    for name, value in given.items():
        if value < 0:
            raise UserError(f"optimizer {spec.name}: {name}={value} must be at least 0")
    try:
        optimizer = OPTIMIZERS[spec.name](learning_rate, **given)
    except ValueError as error:
        raise UserError(f"optimizer={text}: {error}") from error
    if given.get("weight_decay"):
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
