"""LSH: random hyperplanes."""

from dah_tf.baselines import base, linear


class LSH(base.Linear):
    """Locality-sensitive hashing for angles: the signs of random projections.

    There is no objective. The columns of `components_` are drawn from the normal distribution, so
    that the chance that a bit differs between two rows is their angle over pi, seen from the mean.

    The mean row is taken out first, which is our reading: features such as GIST are positive
    throughout, and bits of their angles at the origin are nearly constant.

    References:
        Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
        Gionis, Indyk and Motwani, "Similarity search in high dimensions via hashing", VLDB 1999.
    """

    TITLE = "LSH (2002)"
    SOURCE = "paper"

    def _learn(self, X, supervision, rng):
        self.mean_ = linear.mean(X)
        self.components_ = rng.standard_normal((X.shape[1], self.n_bits))
