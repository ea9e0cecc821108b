"""Codebooks: one binary code for each class, with large distances between them. NumPy only.

A codebook is an int8 array of -1 and 1 of shape `(classes, bits)`. `codebook` returns the best one
that this module knows for a number of classes and bits. It compares three constructions:

- rows of a Hadamard matrix, any two of which differ in half of their bits,
- for ten classes, copies of the design of `balanced_ten`,
- `search`, which exists for every number of classes and bits.

Two equal columns are two bits that always agree, so that one of them is wasted. The first ten rows
of a Sylvester matrix have at most 16 different columns, for example. `codebook` therefore takes
rows in random order, and copies of a design with their rows in another order.
"""

import functools
import itertools
import math

import numpy as np

from dah_tf.errors import UserError

POOL = 8192  # the number of random words from which `search` takes the farthest
TRIES = 64  # the number of random choices among which the best is kept
EVALUATIONS = 1500  # the largest number of columns that `search` tries to improve
WORK = 2_000_000  # the largest number of pairs of rows that it looks at


def sylvester(order: int) -> np.ndarray:
    """Makes a Hadamard matrix by doubling: `H_2n = [[H_n, H_n], [H_n, -H_n]]`.

    Args:
        order: int, a power of 2.

    Returns:
        int8 array of shape `(order, order)`.

    Raises:
        ValueError: the order is not a power of 2.
    """
    if order < 1 or order & (order - 1):
        raise ValueError(f"`order` must be a power of 2. Received: order={order}")
    matrix = np.ones((1, 1), np.int8)
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def paley_one(prime: int) -> np.ndarray:
    """Makes the Hadamard matrix of order `prime + 1` of Paley's first construction.

    Args:
        prime: int, a prime number with remainder 3 when divided by 4.

    Returns:
        int8 array of shape `(prime + 1, prime + 1)`.

    Raises:
        ValueError: the number is not such a prime.

    References:
        Paley, "On orthogonal matrices", Journal of Mathematics and Physics 1933.
    """
    if not _is_prime(prime) or prime % 4 != 3:
        raise ValueError(f"`prime` must be a prime of the form 4n + 3. Received: prime={prime}")
    skew = np.zeros((prime + 1, prime + 1), np.int8)
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = _jacobsthal(prime)
    return skew + np.eye(prime + 1, dtype=np.int8)


def paley_two(prime: int) -> np.ndarray:
    """Makes the Hadamard matrix of order `2 (prime + 1)` of Paley's second construction.

    Args:
        prime: int, a prime number with remainder 1 when divided by 4.

    Returns:
        int8 array of shape `(2 prime + 2, 2 prime + 2)`.

    Raises:
        ValueError: the number is not such a prime.

    References:
        Paley, "On orthogonal matrices", Journal of Mathematics and Physics 1933.
    """
    if not _is_prime(prime) or prime % 4 != 1:
        raise ValueError(f"`prime` must be a prime of the form 4n + 1. Received: prime={prime}")
    conference = np.ones((prime + 1, prime + 1), np.int8)
    conference[0, 0] = 0
    conference[1:, 1:] = _jacobsthal(prime)
    signs = np.array([[1, 1], [1, -1]], np.int8)
    diagonal = np.array([[1, -1], [-1, -1]], np.int8)
    eye = np.eye(prime + 1, dtype=np.int8)
    return np.kron(conference, signs) + np.kron(eye, diagonal)


def hadamard(order: int) -> np.ndarray | None:
    """Makes a Hadamard matrix by Paley's constructions, by doubling, or by both.

    Returns:
        int8 array of shape `(order, order)`, or None if these constructions do not reach the order.
    """
    if order in (1, 2):
        return sylvester(order)
    if order % 4:
        return None
    if _is_prime(order - 1):
        return paley_one(order - 1)
    half = order // 2 - 1
    if half % 4 == 1 and _is_prime(half):
        return paley_two(half)
    smaller = hadamard(order // 2)
    return None if smaller is None else np.kron(sylvester(2), smaller)


def balanced_ten() -> np.ndarray:
    """Makes the codebook of ten classes and 18 bits in which all distances are 10.

    It is the residual of the (19, 9, 4) design. The blocks of the design are the squares modulo 19
    and their translates. One block is removed together with its nine points. The ten points that
    remain are the classes, and the 18 other blocks are the bits. Each bit is 1 for five classes.

    Returns:
        int8 array of shape `(10, 18)`.
    """
    squares = {x * x % 19 for x in range(1, 19)}
    points = [x for x in range(19) if x not in squares]
    inside = [[(x - shift) % 19 in squares for shift in range(1, 19)] for x in points]
    return np.where(inside, 1, -1).astype(np.int8)


def distances(book: np.ndarray) -> np.ndarray:
    """Returns the Hamming distances between the rows of a codebook.

    Returns:
        int64 array of shape `(classes, classes)`.
    """
    wide = book.astype(np.float32)  # exact, because the sums are small integers
    return ((book.shape[1] - wide @ wide.T) / 2).astype(np.int64)


def smallest_distance(book: np.ndarray) -> int:
    """Returns the smallest distance between two rows; that of one row is the number of bits."""
    classes, bits = book.shape
    return int(distances(book)[np.triu_indices(classes, 1)].min(initial=bits))


def repeated_columns(book: np.ndarray) -> int:
    """Counts the columns that equal an earlier column or its negative."""
    return book.shape[1] - len({column.tobytes() for column in (book * book[:1]).T})


def gilbert_varshamov(classes: int, bits: int) -> int:
    """Returns the largest distance for which the bound of Gilbert and Varshamov ensures a codebook.

    That many words exist if `classes - 1` balls of radius `distance - 1` do not cover all words.
    """
    ball = 0
    for distance in range(bits + 1):
        ball += math.comb(bits, distance)
        if (classes - 1) * ball >= 2**bits:
            return distance
    return bits


def plotkin(classes: int, bits: int) -> int:
    """Returns a distance that no codebook exceeds: the mean distance if each bit is balanced."""
    if classes < 2:
        return bits
    return 2 * bits * (classes // 2) * (classes - classes // 2) // (classes * (classes - 1))


def search(classes: int, bits: int, seed: int = 0) -> np.ndarray:
    """Searches a codebook with a large smallest distance.

    The search starts three times. Two starts have random columns that are as balanced as possible.
    The other takes words from a random pool, each as far as possible from those before it. All are
    improved by exchanging two entries of a column, which does not change its balance.

    Args:
        classes, bits: ints.
        seed: int.

    Returns:
        int8 array of shape `(classes, bits)`.
    """
    rng = np.random.default_rng([seed, classes, bits])
    starts = _balanced, _balanced, _farthest
    found = [_improved(start(classes, bits, rng), rng) for start in starts]
    return max(found, key=_quality)


def codebook(classes: int, bits: int, seed: int = 0) -> np.ndarray:
    """Returns the best codebook of all constructions.

    The best has the largest smallest distance. Among equals it has the most balanced columns, and
    then the fewest repeated columns.

    Args:
        classes: int, the number of codes.
        bits: int, the code length.
        seed: int. Equal arguments give equal codebooks.

    Returns:
        int8 array of shape `(classes, bits)`. All rows differ.

    Raises:
        UserError: there are not that many codes of this length.

    Example:
        >>> smallest_distance(codebook(10, 36))
        20
    """
    if bits < 1 or classes > 2**bits:
        fewest = max(1, math.ceil(math.log2(classes)))
        raise UserError(
            f"bits={bits} gives fewer codes than there are classes ({classes}); set bits to at "
            f"least {fewest}"
        )
    return _codebook(classes, bits, seed).copy()


@functools.lru_cache(maxsize=32)
def _codebook(classes, bits, seed):
    makers = _hadamard_rows, _copies_of_the_design, search
    found = [maker(classes, bits, seed) for maker in makers]
    return max((each for each in found if each is not None), key=_quality)


def _quality(book):
    """Returns what makes one codebook better than another, the most important first."""
    imbalance = int(np.square(book.sum(axis=0, dtype=np.int64)).sum())
    return smallest_distance(book), -imbalance, -repeated_columns(book)


def _hadamard_rows(classes, bits, seed):
    """Takes rows of a Hadamard matrix, and their negatives if there are more classes than bits."""
    matrix = hadamard(bits) if classes <= 2 * bits else None
    if matrix is None:
        return None
    if classes > bits:
        return np.concatenate([matrix, -matrix])[:classes]
    rng = np.random.default_rng([seed, classes, bits])

    def chosen():
        # A row and its negative are equally far from the other rows. With the rows as they are,
        # the first column of the matrix would be constant.
        signs = rng.choice(np.array([-1, 1], np.int8), size=(classes, 1))
        return signs * matrix[rng.permutation(bits)[:classes]]

    return max((chosen() for _ in range(TRIES)), key=_quality)


def _copies_of_the_design(classes, bits, seed):
    """Joins copies of the design of ten classes with new columns for the bits that remain."""
    design = balanced_ten()
    copies, rest = divmod(bits, design.shape[1])
    if classes != len(design) or not copies:
        return None
    rng = np.random.default_rng([seed, classes, bits])
    more = [design] * (copies - 1) + ([search(classes, rest, seed)] if rest else [])
    book = design
    for each in more:
        # The rows in another order have other columns. All distances of the design are equal.
        orders = (each[rng.permutation(classes)] for _ in range(TRIES))
        book = min((np.hstack([book, order]) for order in orders), key=repeated_columns)
    return book


def _balanced(classes, bits, rng):
    """Makes random columns in which the numbers of -1 and 1 differ by at most one."""
    column = np.where(np.arange(classes) < classes // 2, -1, 1).astype(np.int8)
    signs = rng.choice(np.array([-1, 1], np.int8), size=bits)
    return np.stack([rng.permutation(column) for _ in range(bits)], axis=1) * signs


def _farthest(classes, bits, rng):
    """Takes words from a random pool, each as far as possible from the words before it.

    Among the farthest words, it takes one that makes the columns most balanced.
    """
    if 2**bits <= POOL:
        words = np.array([*itertools.product([-1, 1], repeat=bits)], np.float32)
        pool = rng.permutation(words)
    else:
        pool = rng.choice(np.array([-1, 1], np.float32), size=(POOL, bits))
    chosen, sums = [0], pool[0].copy()
    nearest = np.full(len(pool), bits, np.float32)
    while len(chosen) < classes:
        nearest = np.minimum(nearest, (bits - pool @ pool[chosen[-1]]) / 2)
        far = np.flatnonzero(nearest == nearest.max())[:TRIES]
        chosen.append(int(far[np.argmin(pool[far] @ sums)]))
        sums += pool[chosen[-1]]
    return pool[chosen].astype(np.int8)


def _improved(book, rng):
    """Exchanges entries within columns while that removes pairs of rows that are too near.

    The target is one more than the smallest distance. A pair that falls short of it costs more than
    all changes to pairs that do not. The search ends at Plotkin's bound, or when its work is done.
    """
    classes, bits = book.shape
    book = book.astype(np.int64)
    best, highest = book.copy(), plotkin(classes, bits)
    reached = smallest_distance(book)
    agree = book @ book.T
    for _ in range(min(EVALUATIONS, WORK // classes**2)):
        if reached >= highest:
            break
        cost = _costs(bits, reached + 1)
        column = book[:, rng.integers(bits)]
        same = column[:, None] * column[None, :]
        # What it costs to change one entry; the diagonal does not count.
        change = cost[(bits + agree - 2 * same) // 2] - cost[(bits + agree) // 2]
        np.fill_diagonal(change, 0)
        one = change.sum(axis=1)
        # If both entries of a pair change, their own distance stays as it is.
        both = one[:, None] + one[None, :] - 2 * change
        both = np.where(same < 0, both, np.iinfo(np.int64).max)
        places = np.flatnonzero(both == both.min())
        i, j = divmod(int(rng.choice(places)), classes)
        if same[i, j] > 0 or both[i, j] > 0:
            continue
        column[[i, j]] *= -1  # `column` is a view of the codebook
        agree = book @ book.T
        found = int((bits - (agree - 2 * bits * np.eye(classes, dtype=np.int64)).max()) // 2)
        if found > reached:
            best, reached = book.copy(), found
    return best.astype(np.int8)


def _costs(bits, target):
    """Returns the cost of a pair of rows for each number of bits in which they agree."""
    short = target - (bits - np.arange(bits + 1))
    return 5 ** np.clip(short + 2, 0, 12)


def _jacobsthal(prime):
    """Returns the matrix of the quadratic characters of `i - j` modulo a prime."""
    squares = {x * x % prime for x in range(1, prime)}
    character = np.array([0] + [1 if x in squares else -1 for x in range(1, prime)], np.int8)
    numbers = np.arange(prime)
    return character[(numbers[:, None] - numbers[None, :]) % prime]


def _is_prime(number):
    return number > 1 and all(number % each for each in range(2, math.isqrt(number) + 1))
