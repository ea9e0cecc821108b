"""Implements LSH, which hashes by random hyperplanes."""

from dah_tf.baselines import base, linear


class LSH(base.Linear):
    """Locality-sensitive hashing for angles. The bits are the signs of random projections.

    The method does not optimise anything. The columns of `components_` are drawn from the normal
    distribution. Two rows then differ in a bit with a probability of their angle divided by pi,
    where the angle is measured at the mean row.

    Subtracting the mean row is our interpretation of the method. Features such as GIST are always
    positive, and without the subtraction their bits would be nearly constant.

    References:
        Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
        Gionis, Indyk and Motwani, "Similarity search in high dimensions via hashing", VLDB 1999.
    """

    TITLE = "LSH (2002)"
    SOURCE = "paper"

    def _learn(self, X, supervision, rng):
        self.mean_ = linear.mean(X)
        self.components_ = rng.standard_normal((X.shape[1], self.n_bits))
