"""Learning-rate schedules, and Muon compared to NumPy's singular value decomposition."""

import inspect

import keras
import numpy as np
import pytest

from dah_tf.errors import UserError
from dah_tf.training import optimizers


def variables(*shapes):
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=shape).astype("float32")) for shape in shapes]


def gradients(*shapes):
    rng = np.random.default_rng(1)
    return [keras.ops.convert_to_tensor(rng.normal(size=s).astype("float32")) for s in shapes]


def test_muon_orthogonalises_convolution_kernels():
    (kernel,), (gradient,) = variables((3, 3, 4, 8)), gradients((3, 3, 4, 8))
    before = kernel.numpy().copy()
    optimizer = optimizers.get("muon:momentum=0,fixed_norm", 0.5)
    optimizer.build([kernel])
    optimizer.apply([gradient])
    held = before * np.sqrt(8) / np.linalg.norm(before)
    update = ((held - kernel.numpy()) / 0.5).reshape(36, 8)
    # The Newton-Schulz steps bring the singular values near 1 (Jordan et al.: 0.7 to 1.2).
    left, values, right = np.linalg.svd(update, full_matrices=False)
    assert 0.6 < values.min() and values.max() < 1.3
    left_of_gradient, _, right_of_gradient = np.linalg.svd(
        np.asarray(gradient).reshape(36, 8), full_matrices=False
    )
    np.testing.assert_allclose(left @ right, left_of_gradient @ right_of_gradient, atol=0.02)


def test_fixed_norm_forgets_the_kernels_own_norm():
    ends = []
    for scale in (1.0, 100.0):
        (kernel,) = variables((3, 3, 4, 8))
        kernel.assign(kernel * scale)
        optimizer = optimizers.get("muon:fixed_norm", 0.1)
        optimizer.build([kernel])
        optimizer.apply(gradients((3, 3, 4, 8)))
        ends.append(kernel.numpy())
    np.testing.assert_allclose(*ends, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(16,), (8, 4), (3, 3, 16, 1), (7, 7, 1, 1)])
def test_other_variables_take_adams_step(shape):
    (variable,), (gradient,) = variables(shape), gradients(shape)
    before = variable.numpy().copy()
    optimizer = optimizers.get("muon:adam_ratio=0.5,fixed_norm", 0.1)
    optimizer.build([variable])
    optimizer.apply([gradient])
    # The first step of Adam is rate * sign(gradient), and the rate is 0.1 * 0.5.
    expected = before - 0.05 * np.sign(np.asarray(gradient))
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", list(optimizers.OPTIMIZERS))
def test_every_optimizer_comes_back_from_its_config(name):
    optimizer = optimizers.get(f"{name}:weight_decay=0.01", 0.1)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert again.get_config() == optimizer.get_config()


def test_muons_config_holds_its_argument():
    assert optimizers.Muon(0.1, fixed_norm=True).get_config()["fixed_norm"] is True


def test_unknown_optimizer():
    with pytest.raises(UserError, match="no optimizer 'adagrad'; there are adam, sgd, muon"):
        optimizers.get("adagrad", 0.1)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("adam:momentum=0.9", "adam has no option 'momentum'; its options are weight_decay"),
        ("sgd:ns_steps=3", "sgd has no option 'ns_steps'"),
        ("muon:ns_steps=0", "ns_steps must be at least 1"),
        ("sgd:momentum=-1", "momentum=-1.0 must be at least 0"),
    ],
)
def test_options_are_the_optimizers_own(text, reason):
    with pytest.raises(UserError) as caught:
        optimizers.get(text, 0.1)
    assert reason in str(caught.value)


def test_warmup_and_decay_by_hand():
    linear = optimizers.WarmupDecay(1.0, total=12, warmup=2, decay="linear", floor=0.1)
    # The factor rises over steps 0 and 1 to 1, and falls in 10 steps to a tenth as 1 - 0.09 i.
    expected = [0.5, 1.0] + [1 - 0.09 * i for i in range(11)]
    np.testing.assert_allclose([float(linear(i)) for i in range(13)], expected, rtol=1e-5)
    cosine = optimizers.WarmupDecay(2.0, total=4, decay="cosine")
    np.testing.assert_allclose([float(cosine(i)) for i in (0, 2, 4, 9)], [2, 1, 0, 0], atol=1e-6)
    constant = optimizers.WarmupDecay(3.0, total=4)
    assert [float(constant(i)) for i in (0, 3, 100)] == [3.0, 3.0, 3.0]


def test_schedule_config_matches_its_signature():
    schedule = optimizers.WarmupDecay(1.0, total=5)
    names = set(inspect.signature(optimizers.WarmupDecay).parameters)
    assert set(schedule.get_config()) == names
    with pytest.raises(ValueError, match="decay='steps'"):
        optimizers.WarmupDecay(1.0, total=5, decay="steps")


@pytest.mark.parametrize("name", list(optimizers.OPTIMIZERS))
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_variables_have_the_same_names_in_any_process(name, weight_decay):
    made = [optimizers.get(f"{name}:weight_decay={weight_decay}", 1e-3) for _ in range(2)]
    assert made[0].name == made[1].name
