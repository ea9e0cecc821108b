"""LSH, SH, PCAH, ITQ and ITQ-CCA, against other libraries and brute force."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from shallow_data import blobs, one_hot
from sklearn.decomposition import PCA

from dah_tf import baselines, codes
from dah_tf.baselines import itq, sh
from dah_tf.errors import UserError


def bits_of(method, x):
    return codes.unpack(method.transform(x), method.n_bits)


# LSH


def test_lsh_bits_differ_by_the_angle():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 6)) + 5
    method = baselines.get("lsh", 20_000, 1).fit(x)
    bits, centred = bits_of(method, x), x - x.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    chance = np.arccos(np.clip(unit @ unit.T, -1, 1)) / np.pi
    found = (bits[:, None] != bits).mean(axis=2)
    # 190 pairs: 4 standard deviations.
    assert (np.abs(found - chance) <= 4 * np.sqrt(chance * (1 - chance) / 20_000) + 1e-9).all()


def test_lsh_ignores_the_distance_from_the_mean():
    x, _ = blobs()
    method = baselines.get("lsh", 32).fit(x)
    np.testing.assert_array_equal(
        method.transform(x), method.transform(method.mean_ + 7 * (x - method.mean_))
    )
    # Away from the origin: without the mean all rows would be on one side of most hyperplanes.
    far = x + 1000
    assert 0.3 < bits_of(baselines.get("lsh", 32).fit(far), far).mean(axis=0).min()


def test_lsh_gives_the_codes_of_faiss():
    faiss = pytest.importorskip("faiss")
    x, _ = blobs(d=16)
    x = x.astype(np.float32)
    method = baselines.get("lsh", 24).fit(x)
    index = faiss.IndexLSH(16, 24, True, False)
    directions = np.ascontiguousarray(method.components_.T, np.float32).ravel()
    faiss.copy_array_to_vector(directions, index.rrot.A)
    theirs = index.sa_encode(x - method.mean_.astype(np.float32))
    theirs = np.unpackbits(theirs, axis=1, count=24, bitorder="little")
    # Theirs computes in float32.
    sure = np.abs(method.decision_function(x)) > 1e-4
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(theirs[sure], bits_of(method, x)[sure])


# PCAH


def test_pcah_is_scikit_learns_pca():
    x, _ = blobs()
    method = baselines.get("pcah", 8).fit(x)
    reference = PCA(8, svd_solver="full").fit(x)
    values, theirs = method.decision_function(x), reference.transform(x)
    sign = np.sign((values * theirs).sum(axis=0))
    np.testing.assert_allclose(values, theirs * sign, atol=1e-9)
    product = method.components_.T @ method.components_
    np.testing.assert_allclose(product, np.eye(8), atol=1e-12)


def test_pcah_takes_the_mean_of_the_training_rows():
    x, _ = blobs()
    method = baselines.get("pcah", 4).fit(x)
    np.testing.assert_allclose(method.decision_function(x).mean(axis=0), 0, atol=1e-12)
    # Other rows are not centred anew, one alone neither.
    np.testing.assert_allclose(method.decision_function(x[:1]), method.decision_function(x)[:1])


@pytest.mark.parametrize("name", ["pcah", "itq"])
def test_more_bits_than_directions_are_refused(name):
    x, _ = blobs(d=6)
    with pytest.raises(UserError, match="n_bits=7 is more than the 6 directions in which X varies"):
        baselines.get(name, 7).fit(x)
    flat = np.hstack([x, x @ np.ones((6, 3))])
    with pytest.raises(UserError, match="n_bits=7 is more than the 6 directions"):
        baselines.get(name, 7).fit(flat)
    with pytest.raises(UserError, match="n_bits=5 is more than the 4 directions"):
        baselines.get(name, 5).fit(x[:5])
    baselines.get(name, 6).fit(flat)


# ITQ


def test_itq_never_raises_its_objective():
    x, _ = blobs(400, d=20)
    method = baselines.get("itq", 16).fit(x)
    assert len(method.objectives_) == 50
    assert (np.diff(method.objectives_) <= 1e-9).all()
    assert method.objectives_[-1] < method.objectives_[0] * 0.99
    np.testing.assert_allclose(method.rotation_.T @ method.rotation_, np.eye(16), atol=1e-12)
    # The objective itself, from B before the last R: 50 rounds bring it to rest here or nearly so.
    values = method.decision_function(x)
    now = np.square(np.where(values > 0, 1, -1) - values).sum()
    assert method.objectives_[-1] * 0.999 < now <= method.objectives_[-1] + 1e-9


def test_itq_rounds_by_hand():
    # V = [[3, 0], [0, 1]], R = I: B = sgn(V) = [[1, -1], [-1, 1]] as sgn 0 is -1.
    # Vᵀ B = [[3, -3], [-1, 1]] = u s wᵀ with s = (sqrt 20, 0).
    rotation, objectives = itq.rotate(np.array([[3.0, 0], [0, 1]]), np.eye(2), 1)
    # |B|² + |V|² - 2 (s1 + s2) = 4 + 10 - 2 sqrt 20.
    assert objectives[0] == pytest.approx(14 - 2 * np.sqrt(20))
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(2), atol=1e-12)


def test_itq_is_alternating_procrustes():
    # faiss' ITQMatrix is no reference: it multiplies the singular vectors by U V in place of U Vᵀ
    # (its 1.15.1), so that its objective does not fall. SciPy's Procrustes solution is one.
    x, _ = blobs(500, d=12)
    values = x - x.mean(axis=0)
    start = itq.random_rotation(12, np.random.default_rng(5))
    expected = start
    for _ in range(20):
        expected, _ = orthogonal_procrustes(values, np.where(values @ expected > 0, 1, -1))
    ours, _ = itq.rotate(values, start, 20)
    np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_itq_of_rotated_components():
    x, _ = blobs(d=8)
    x -= x.mean(axis=0)
    rng = np.random.default_rng(0)
    start, turn = itq.random_rotation(8, rng), itq.random_rotation(8, rng)
    one, _ = itq.rotate(x, start, 30)
    other, _ = itq.rotate(x @ turn, turn.T @ start, 30)
    np.testing.assert_array_equal(x @ one > 0, x @ turn @ other > 0)


# ITQ-CCA


def test_canonical_correlations_are_those_of_orthonormal_bases():
    # Björck and Golub: the singular values of Qxᵀ Qy.
    x, y = blobs(400, d=10, classes=5)
    labels = one_hot(y)[:, :4]  # the fifth column is 1 minus the others
    bases = [np.linalg.qr(part - part.mean(axis=0))[0] for part in (x, labels)]
    expected = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    method = baselines.get("itq_cca:ridge=1e-12", 8).fit(x, y)
    np.testing.assert_allclose(method.correlations_, expected, atol=1e-6)
    assert len(method.correlations_) == 4
    # The directions' values are uncorrelated, each of variance correlation² before the rotation.
    values = method.decision_function(x) @ method.rotation_.T
    np.testing.assert_allclose(values[:, 4:], 0, atol=1e-9)
    variance = values[:, :4].T @ values[:, :4] / len(x)
    np.testing.assert_allclose(variance, np.diag(expected**2), atol=1e-6)


def test_itq_cca_spreads_few_directions_over_many_bits():
    x, y = blobs(400, classes=3)
    method = baselines.get("itq_cca", 32).fit(x, y)
    bits = bits_of(method, x)
    assert np.linalg.matrix_rank(method.components_) == 2
    assert (bits.mean(axis=0) > 0.01).all()
    assert (bits.mean(axis=0) < 0.99).all()
    assert (np.diff(method.objectives_) <= 1e-9).all()


def test_itq_cca_does_not_depend_on_the_scale():
    x, y = blobs()
    one = baselines.get("itq_cca", 8).fit(x, y)
    other = baselines.get("itq_cca", 8).fit(x * 1e-3, y)
    np.testing.assert_array_equal(one.transform(x), other.transform(x * 1e-3))


def test_itq_cca_refuses_labels_that_say_nothing():
    x = np.array([[0.0, 1], [1, 0], [0, 1], [1, 0]])
    with pytest.raises(UserError, match="do not depend on y: every class has the same mean"):
        baselines.get("itq_cca", 2).fit(x, [0, 0, 1, 1])


# SH


def test_sh_is_the_smallest_eigenfunctions():
    x, _ = blobs(d=5)
    method = baselines.get("sh", 16).fit(x)
    values = PCA(5, svd_solver="full").fit_transform(x)
    # Our signs of the axes: each one's largest entry is positive.
    axes = PCA(5, svd_solver="full").fit(x).components_
    values = values * np.sign(axes[np.arange(5), np.abs(axes).argmax(axis=1)])
    low, high = values.min(axis=0), values.max(axis=0)
    every = sorted((j * np.pi / (high[i] - low[i]), i) for i in range(5) for j in range(1, 50))[:16]
    np.testing.assert_allclose(method.frequencies_, [w for w, _ in every], rtol=1e-9)
    assert method.axes_.tolist() == [i for _, i in every]
    assert len(set(method.axes_.tolist())) < 16  # several modes lie on one axis
    expected = [np.sin(np.pi / 2 + w * (values[:, i] - low[i])) for w, i in every]
    np.testing.assert_allclose(method.decision_function(x), np.transpose(expected), atol=1e-9)


def test_sh_modes_by_hand():
    # Ranges 4 and 2: w is pi/4, then pi/2 twice (j = 2 of the first axis, j = 1 of the second),
    # then 3 pi/4, then pi twice.
    axes, frequencies = sh.modes(np.array([4.0, 2.0]), 6)
    assert axes.tolist() == [0, 0, 1, 0, 0, 1]
    np.testing.assert_allclose(frequencies / np.pi, [0.25, 0.5, 0.5, 0.75, 1, 1])


def test_sh_splits_at_mid_range_and_in_halves():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(4000, 2)) * [3, 1]
    method = baselines.get("sh", 5).fit(x)
    bits = bits_of(method, x)
    np.testing.assert_allclose(bits.mean(axis=0), 0.5, atol=0.05)
    assert method.axes_[0] == 0
    # j = 1 changes its sign once, in the middle, up to the small turn of the axes.
    clear = np.abs(x[:, 0] - 1.5) > 0.1
    left, right = (np.unique(bits[clear & side, 0]) for side in (x[:, 0] < 1.5, x[:, 0] > 1.5))
    assert len(left) == len(right) == 1
    assert left != right


def test_sh_takes_rows_beyond_the_range():
    x, _ = blobs()
    method = baselines.get("sh", 12).fit(x)
    far = method.decision_function(x * 100)
    assert np.isfinite(far).all()
    assert np.abs(far).max() <= 1
