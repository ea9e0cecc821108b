"""DAH computes the same as version 0.2.0, and files of that version can be read.

For each case, `golden/dah_terms-0.2.0.npz` has the weights of a model without a backbone, labels,
terms and gradients. `golden/model-0.2.0.keras` is a small model, and the `.npz` has its outputs.
"""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from dah_tf.model import HashModel

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CASES = {
    "plain": "dah",
    "weighted": "dah:phi1=0.5,phi2=2,t=1.5,similar_weight=0.3,balance_weight=3,"
    "label_smoothing=0.1,class_scale=8",
    "several": "dah:similar_weight=0.2,label_smoothing=0.05",
}


@pytest.mark.parametrize("case", CASES)
def test_terms_and_gradients_are_those_of_0_2_0(case):
    golden = np.load(GOLDEN / "dah_terms-0.2.0.npz")
    inputs = keras.Input((7,))
    backbone = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    model = HashModel(backbone, 5, 3, multi_label=case == "several", method=CASES[case])
    assert [weight.path for weight in model.weights] == golden[f"{case}.paths"].tolist()
    model.set_weights([golden[f"{case}.weight.{i}"] for i in range(4)])
    with tf.GradientTape() as tape:
        outputs = {
            name: tf.reshape(value, (2, 6, value.shape[-1]))
            for name, value in model(golden["features"], training=True).items()
        }
        terms = model.terms(golden[f"{case}.labels"], outputs)
    gradients = tape.gradient(terms["loss"], model.trainable_weights)
    assert [*terms] == golden[f"{case}.order"].tolist()
    for name, value in terms.items():
        np.testing.assert_allclose(value, golden[f"{case}.term.{name}"], rtol=1e-6, err_msg=name)
    for i, gradient in enumerate(gradients):
        expected = golden[f"{case}.gradient.{i}"]
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_a_model_file_of_0_2_0_loads():
    golden = np.load(GOLDEN / "model-0.2.0.npz")
    model = keras.saving.load_model(GOLDEN / "model-0.2.0.keras", compile=False)
    assert str(model.method) == (
        "dah:phi1=0.5,phi2=0.25,t=1.5,similar_weight=0.3,balance_weight=2.0,label_smoothing=0.1,"
        "class_scale=8.0"
    )
    assert (model.cutout, model.mirror, model.span) == (4, True, (0.25, 0.75))
    assert model.fingerprint() == str(golden["fingerprint"])
    assert [weight.path for weight in model.weights] == golden["paths"].tolist()
    images = np.random.default_rng(5).integers(0, 256, (4, 16, 16, 1), np.uint8)
    for name, value in model(images).items():
        np.testing.assert_allclose(value, golden[name], atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(model.encode(images), golden["codes"])


def test_the_golden_case_can_fail():
    """A slightly changed weight makes the comparison fail."""
    golden = np.load(GOLDEN / "dah_terms-0.2.0.npz")
    inputs = keras.Input((7,))
    backbone = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    model = HashModel(backbone, 5, 3, method="dah:phi1=1.0001")
    model.set_weights([golden[f"plain.weight.{i}"] for i in range(4)])
    outputs = {k: tf.reshape(v, (2, 6, v.shape[-1])) for k, v in model(golden["features"]).items()}
    loss = float(model.terms(golden["plain.labels"], outputs)["loss"])
    assert abs(loss / golden["plain.term.loss"] - 1) > 1e-5
