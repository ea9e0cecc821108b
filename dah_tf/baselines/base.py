"""Defines shallow hash methods: `Hasher`, and the three forms of its hash function.

A method is one file with one class, and one line in `baselines.METHODS`. The class inherits from
one of the forms below and defines `_learn`. The arrays of the form are all that the hash function
needs:

- `Linear`: `(x - mean_) @ components_`;
- `Cosine`: `cos((x - mean_) @ components_ - phases_)`;
- `Kernel`: `exp(-gamma_ * |x - anchors_|²) @ components_ + intercept_`.

A fitted method can therefore also be written as a few constants of a graph. The constructor only
stores its arguments. Its keyword-only arguments are the options of the method's text. `fit` learns
from all of X in blocks of rows, which it converts to float64. It never holds n x n values.
"""

from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from dah_tf import codes
from dah_tf.baselines import checks, kernels, labels, saving
from dah_tf.baselines.rows import blocks
from dah_tf.errors import UserError

LARGE = 1e100
"""The largest absolute value whose squares can still be summed."""


class Hasher(TransformerMixin, BaseEstimator):
    """A hash function that is learned from rows of features.

    A bit is 1 if its value of `decision_function` is above 0.

    Args:
        n_bits: int, the code length k.
        random_state: int, the seed of every random choice. None draws a new seed each time.

    Attributes:
        n_features_in_: int, the number d of features.
    """

    TITLE = ""
    """The name of the method in reports, with its year."""
    SOURCE = "reading"
    """The source of formula and constants: "paper", "code", or "reading" for a reconstruction."""
    SUPERVISED = False
    STATE: ClassVar = {}
    """This maps the name of each fitted array to the letters of its shape.

    d is the number of features, k is the number of bits, and other letters stand for any size.
    """

    def __init__(self, n_bits: int = 36, random_state: int | None = 0):
        self.n_bits = n_bits
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learns the hash function.

        Args:
            X: float array of shape `(n, d)` with at least 2 rows.
            y: for a supervised method, the n classes of the rows, or a 0/1 array of shape
                `(n, classes)` if a row can have several labels. Other methods ignore it.

        Returns:
            self.

        Raises:
            UserError: X or y has another form, all rows of X are equal, or an argument of the
                constructor is out of its range.
        """
        X = self._checked(X, reset=True)
        low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
        if (low == high).all():
            raise UserError("the rows of X do not differ, so there is nothing to learn")
        if max(-low.min(), high.max()) > LARGE or (high - low).max() < 1 / LARGE:
            raise UserError(
                f"X has values beyond {LARGE:g}, or its rows differ by less than the inverse of it; "
                "rescale X"
            )
        checks.whole("n_bits", self.n_bits, 1)
        if self.random_state is not None:
            checks.whole("random_state", self.random_state, 0)
        rng = np.random.default_rng(self.random_state)
        if self.SUPERVISED:
            self._learn(X, labels.Supervision(y, len(X), type(self).__name__), rng)
        else:
            self._learn(X, None, rng)
        for name in self.STATE:
            # Loaded arrays are contiguous. Products with a slice would be rounded differently.
            setattr(self, name, np.array(getattr(self, name), order="C"))
        return self

    def _learn(self, X, supervision, rng):
        """Sets the arrays of `STATE` from checked rows, a `labels.Supervision` and a generator."""
        raise NotImplementedError

    def decision_function(self, X):
        """Returns the values whose signs are the bits.

        Args:
            X: float array of shape `(n, d)`.

        Returns:
            float64 array of shape `(n, n_bits)`.

        Raises:
            UserError: X has another form.
            sklearn.exceptions.NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        result = np.empty((len(X), self.n_bits))
        for rows, block in blocks(X):
            result[rows] = self._logits(block)
        return result

    def transform(self, X):
        """Returns the packed codes of rows.

        Args:
            X: float array of shape `(n, d)`.

        Returns:
            uint8 array of shape `(n, ceil(n_bits / 8))`, as `dah_tf.codes.pack` makes them.

        Raises:
            UserError: X has another form.
            sklearn.exceptions.NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        result = np.empty((len(X), -(-self.n_bits // 8)), np.uint8)
        for rows, block in blocks(X):
            result[rows] = codes.pack(codes.binarize(self._logits(block)))
        return result

    def _logits(self, block):
        """Computes `decision_function` for float64 rows."""
        raise NotImplementedError

    def save(self, path):
        """Writes the fitted hash function to one `.npz` file without pickled objects.

        Args:
            path: path of the file, in a folder that exists. The file appears completely or not at
                all.

        Raises:
            UserError: the file cannot be written.
            sklearn.exceptions.NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        saving.save(self, path)

    @classmethod
    def load(cls, path):
        """Loads a fitted method of this class that `save` wrote.

        Raises:
            UserError: the file does not exist, is damaged, or holds another method.
        """
        from dah_tf import baselines

        found = saving.load(path, baselines.METHODS)
        if not isinstance(found, cls):
            raise UserError(
                f"{path} contains the method {type(found).__name__}, not {cls.__name__}"
            )
        return found

    def _checked(self, X, reset):
        """Returns X as float32 or float64 rows. Other numbers are converted to float64."""
        try:
            return validate_data(
                self,
                X,
                reset=reset,
                dtype=(np.float64, np.float32),
                ensure_min_samples=2 if reset else 1,
            )
        except UserError:
            raise
        except ValueError as error:
            raise UserError(" ".join(str(error).split())) from None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.SUPERVISED
        tags.target_tags.two_d_labels = self.SUPERVISED
        tags.transformer_tags.preserves_dtype = []
        return tags


class Linear(Hasher):
    """A hash function `(x - mean_) @ components_`.

    Attributes:
        mean_: float64 array of shape `(d,)`.
        components_: float64 array of shape `(d, n_bits)`.
    """

    STATE: ClassVar = {"mean_": "d", "components_": "dk"}

    def _logits(self, block):
        return (block - self.mean_) @ self.components_


class Cosine(Hasher):
    """A hash function `cos((x - mean_) @ components_ - phases_)`.

    Attributes:
        mean_: float64 array of shape `(d,)`.
        components_: float64 array of shape `(d, n_bits)`.
        phases_: float64 array of shape `(n_bits,)`, radians.
    """

    STATE: ClassVar = {"mean_": "d", "components_": "dk", "phases_": "k"}

    def _logits(self, block):
        return np.cos((block - self.mean_) @ self.components_ - self.phases_)


class Kernel(Hasher):
    """A hash function `exp(-gamma_ * |x - anchors_|²) @ components_ + intercept_`.

    Attributes:
        anchors_: float64 array of shape `(m, d)`.
        gamma_: float64 array of shape `()`.
        components_: float64 array of shape `(m, n_bits)`.
        intercept_: float64 array of shape `(n_bits,)`.
    """

    STATE: ClassVar = {"anchors_": "md", "gamma_": "", "components_": "mk", "intercept_": "k"}

    def _logits(self, block):
        return kernels.rbf(block, self.anchors_, self.gamma_) @ self.components_ + self.intercept_
