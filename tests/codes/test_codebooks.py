"""Codebooks against their definitions: orthogonal rows, distances, balance, repeated columns."""

import itertools

import numpy as np
import pytest

from dah_tf.codes import codebooks
from dah_tf.errors import UserError


def slow_distances(book):
    return {int((one != other).sum()) for one, other in itertools.combinations(book, 2)}


@pytest.mark.parametrize(
    "matrix",
    [codebooks.sylvester(n) for n in (1, 2, 16, 64)]
    + [codebooks.paley_one(q) for q in (3, 7, 11, 23, 47)]
    + [codebooks.paley_two(q) for q in (5, 13, 17)],
    ids=len,
)
def test_hadamard_matrices_have_orthogonal_rows(matrix):
    assert matrix.dtype == np.int8 and set(np.unique(matrix)) <= {-1, 1}
    n = len(matrix)
    product = matrix.astype(int) @ matrix.T.astype(int)
    np.testing.assert_array_equal(product, n * np.eye(n, dtype=int))


def test_sylvester_is_that_of_scipy():
    scipy_linalg = pytest.importorskip("scipy.linalg")
    np.testing.assert_array_equal(codebooks.sylvester(32), scipy_linalg.hadamard(32))


def test_the_orders_of_hadamard_matrices():
    # 12, 24, 48 and 20 = 19 + 1 are Paley's first, 36 his second, 40 is twice 20. 92 and 116 need
    # other constructions, and 6 and 10 do not exist.
    for order in (1, 2, 4, 8, 12, 20, 24, 28, 36, 40, 48, 64, 96, 128):
        assert len(codebooks.hadamard(order)) == order
    for order in (3, 6, 10, 30, 92, 116):
        assert codebooks.hadamard(order) is None
    for make, order in ((codebooks.sylvester, 12), (codebooks.paley_one, 13)):
        with pytest.raises(ValueError, match=f"={order}"):
            make(order)
    for prime in (9, 11):  # 9 is no prime number, and 11 is 4 * 2 + 3.
        with pytest.raises(ValueError, match=f"prime={prime}"):
            codebooks.paley_two(prime)


def test_the_design_of_ten_classes():
    design = codebooks.balanced_ten()
    assert design.shape == (10, 18)
    assert slow_distances(design) == {10}
    np.testing.assert_array_equal(design.sum(axis=0), 0)
    assert codebooks.repeated_columns(design) == 0


def test_measures_by_hand():
    # Distances: rows 0 and 1 differ in columns 1 and 2, rows 0 and 2 in all, rows 1 and 2 in 0, 3.
    # Column 3 is the negative of column 0, and column 2 that of column 1: two are repeated.
    book = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [-1, -1, 1, 1]], np.int8)
    np.testing.assert_array_equal(codebooks.distances(book), [[0, 2, 4], [2, 0, 2], [4, 2, 0]])
    assert codebooks.smallest_distance(book) == 2
    assert codebooks.repeated_columns(book) == 2
    assert codebooks.smallest_distance(book[:1]) == 4


def test_bounds_by_hand():
    # Balls of radius 0, 1 and 2 in 7 bits hold 1, 8 and 29 words. 15 balls of 8 words are fewer than
    # 128 words, so that 16 words at distance 2 exist; 15 * 29 is more.
    assert codebooks.gilbert_varshamov(16, 7) == 2
    assert codebooks.gilbert_varshamov(1, 7) == codebooks.plotkin(1, 7) == 7
    # 10 classes: each balanced bit differs in 25 of 45 pairs: 12 * 25 / 45 = 6.67, 36 * 25 / 45 = 20.
    assert [codebooks.plotkin(10, bits) for bits in (12, 24, 36, 48)] == [6, 13, 20, 26]
    assert codebooks.plotkin(3, 3) == 2  # 000, 011 and 101


@pytest.mark.parametrize("bits, distance", [(12, 6), (18, 10), (24, 12), (36, 20), (48, 26)])
def test_ten_classes_have_balanced_bits_at_the_largest_known_distance(bits, distance):
    book = codebooks.codebook(10, bits)
    assert min(slow_distances(book)) == codebooks.smallest_distance(book) == distance
    np.testing.assert_array_equal(book.sum(axis=0), 0)
    assert codebooks.repeated_columns(book) <= 1


@pytest.mark.parametrize("classes, bits", [(2, 5), (7, 9), (20, 24), (33, 20), (100, 48), (4, 2)])
def test_any_number_of_classes_reaches_what_is_ensured(classes, bits):
    for book in (codebooks.codebook(classes, bits), codebooks.search(classes, bits)):
        assert book.shape == (classes, bits) and book.dtype == np.int8
        assert set(np.unique(book)) == {-1, 1}
        distance = codebooks.smallest_distance(book)
        assert codebooks.gilbert_varshamov(classes, bits) <= distance
        assert distance <= codebooks.plotkin(classes, bits)


def test_more_classes_than_bits_take_the_negatives():
    book = codebooks.codebook(100, 64)
    assert slow_distances(book) == {32, 64}


def test_columns_are_not_repeated():
    """64 bits from the first ten rows of a Sylvester matrix are 16 bits four times."""
    first = codebooks.sylvester(64)[:10]
    assert codebooks.smallest_distance(first) == 32
    assert codebooks.repeated_columns(first) == 64 - 16
    ours = codebooks.codebook(10, 64)
    assert codebooks.smallest_distance(ours) > 32
    assert codebooks.repeated_columns(ours) < 16
    # Copies of the design would be 18 bits twice.
    design = codebooks.balanced_ten()
    assert codebooks.repeated_columns(np.hstack([design, design])) == 18
    assert codebooks.repeated_columns(codebooks.codebook(10, 36)) == 0


def test_no_bit_is_constant():
    """The first column of a Hadamard matrix is, unless rows are negated."""
    assert (codebooks.hadamard(24)[1:, 0] == codebooks.hadamard(24)[1, 0]).all()
    for classes, bits in ((20, 24), (9, 12), (12, 12)):
        book = codebooks.codebook(classes, bits)
        assert (np.abs(book.sum(axis=0)) < classes).all()


def test_equal_seeds_give_equal_codebooks():
    for make in (codebooks.search, codebooks.codebook):
        one, again, other = (make(10, 24, seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()
    kept = codebooks.codebook(10, 24)
    kept[:] = 0  # what a caller does to its copy does not reach the next one
    assert codebooks.codebook(10, 24).all()


def test_too_few_bits_are_refused():
    with pytest.raises(
        UserError, match=r"bits=3 gives fewer codes .* \(10\); set bits to at least 4"
    ):
        codebooks.codebook(10, 3)
    assert codebooks.smallest_distance(codebooks.codebook(8, 3)) == 1
    assert codebooks.codebook(1, 1).shape == (1, 1)
