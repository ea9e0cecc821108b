"""DCWH by hand, its centres, and its two stages."""

import dataclasses

import numpy as np
import pytest
from method_parts import Loss, encoded, facts, labels_of, logits_of, once_trained, small

from dah_tf.errors import UserError
from dah_tf.model import methods


def state_of(centres, second_stage):
    return {"centres": np.array(centres), "second_stage": np.array(second_stage, "int32")}


def test_by_hand():
    # Centres (0, 0), (2, 0); logits (2, 0), (1, 3), both of class 1. t = 0.5: -0.25 |u - mu|^2.
    # First: -1 against 0: log(1 + 1/e) = 0.313262. Second: -2.5 against -2.5: log 2 = 0.693147.
    # Mean 0.503204. Beyond 1.1: 0.9 + 0 and 0 + 1.9: mean 1.4. Signs (1, -1), (1, 1): squares 1 + 1
    # and 0 + 4: mean 3. Stage 1: 0.503204 + 10 * 1.4 = 14.503204; stage 2 adds 0.01 * 3.
    outputs = {"logits": np.array([[[2.0, 0.0], [1.0, 3.0]]])}
    state = state_of([[0.0, 0.0], [2.0, 0.0]], 7)
    method, labels = methods.get("dcwh"), np.array([[1, 1]])
    terms = method.terms(labels, outputs, state, 6)
    assert [*terms] == ["loss", "class_loss", "excess", "quantisation"]
    assert float(terms["class_loss"]) == pytest.approx(0.503204, abs=1e-6)
    assert float(terms["excess"]) == pytest.approx(1.4)
    assert float(terms["quantisation"]) == pytest.approx(3.0)
    assert float(terms["loss"]) == pytest.approx(14.503204, abs=1e-6)
    for step in (7, 100):
        later = method.terms(labels, outputs, state, step)
        assert float(later["loss"]) == pytest.approx(14.533204, abs=1e-6)


def test_the_second_stage_begins_at_its_share_of_the_steps():
    known = facts("dcwh")
    assert known.steps == 10
    for share, step in ((0.5, 5), (0.72, 7), (0, 0), (1, 10)):
        state = methods.get(f"dcwh:first_stage={share}").variables(known)
        assert state["second_stage"] == step


def test_moving_codes_and_centres_together_changes_nothing():
    logits, labels = logits_of("dcwh"), labels_of("dcwh")
    method, shift = methods.get("dcwh"), np.linspace(-1, 1, logits.shape[-1])
    centres = Loss("dcwh").first["centres"]
    one, other = (
        method.terms(labels, {"logits": logits + by}, state_of(centres + by, 5), 0)["class_loss"]
        for by in (0.0, shift)
    )
    assert float(one) == pytest.approx(float(other), rel=1e-6)


def test_a_small_variance_is_the_nearest_mean():
    logits, labels = logits_of("dcwh"), labels_of("dcwh")
    centres = Loss("dcwh").first["centres"].astype("float64")
    apart = np.square(logits[:, :, None] - centres).sum(axis=-1)
    mine = np.take_along_axis(apart, labels[..., None], axis=-1)[..., 0]
    sharp = methods.get("dcwh:inverse_variance=1e6")
    terms = sharp.terms(labels, {"logits": logits}, state_of(centres, 5), 0)
    expected = np.mean(0.5 * (mine - apart.min(axis=-1)))
    assert float(terms["class_loss"]) / 1e6 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("several", [False, True])
def test_centres_are_the_means_of_the_classes(several):
    method, known = methods.get("dcwh"), facts("dcwh", num_classes=4, several=several)
    labels = np.random.default_rng(1).integers(0, 2, (24, 4)) if several else known.labels
    labels = labels.copy()
    if several:
        labels[:, 3] = 0
    else:
        labels[labels == 3] = 0
    known = dataclasses.replace(known, labels=labels)
    encode = encoded(method, known)
    logits = encode(np.arange(24))["logits"]
    found = method.between(0, encode, {}, known)["centres"]
    for each in range(3):
        of_class = labels[:, each] == 1 if several else labels == each
        np.testing.assert_allclose(found[each], logits[of_class].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found[3], 0.0)  # no image is of this class


def test_centres_are_renewed_before_the_first_step_and_every_two_epochs():
    known = facts("dcwh")  # two steps an epoch
    due = [step for step in range(13) if methods.get("dcwh").due(step, known)]
    assert due == [0, 4, 8, 12]
    due = [step for step in range(4) if methods.get("dcwh:renew_epochs=0.1").due(step, known)]
    assert due == [0, 1, 2, 3]


def test_a_run_begins_with_the_means_of_its_first_codes():
    """They are not random, and reach the loss: the run moves them no further in four steps."""
    model, _ = once_trained("dcwh")
    labels, first = np.repeat(np.arange(3), 8), small("dcwh")
    images = np.random.default_rng(0).integers(0, 100, (24, 8, 8, 1))
    images = (images + 60 * labels[:, None, None, None]).astype("uint8")
    logits = first.outputs(images)["logits"]
    means = np.stack([logits[labels == each].mean(axis=0) for each in range(3)])
    np.testing.assert_allclose(model.state["centres"], means, atol=1e-5)


def test_what_is_refused():
    for text, words in {
        "dcwh:excess=-1": "excess=-1.0 must be at least 0",
        "dcwh:quantisation=-1": "quantisation=-1.0 must be at least 0",
        "dcwh:inverse_variance=0": "inverse_variance=0.0 must be above 0",
        "dcwh:renew_epochs=0": "renew_epochs=0.0 must be above 0",
        "dcwh:first_stage=2": "first_stage=2.0 must lie from 0 to 1",
    }.items():
        with pytest.raises(UserError, match=f"^method dcwh: {words}"):
            methods.get(text)
