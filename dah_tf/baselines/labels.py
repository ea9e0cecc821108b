"""Reads the labels of supervised methods and finds which rows are similar. NumPy only."""

import numpy as np

from dah_tf.errors import UserError

MOST_SETS = 8192
"""The largest number of distinct sets of labels, whose similarities are stored as a matrix."""


class Supervision:
    """The information in the labels of n rows.

    Two rows are similar if they have a class in common, so similarity depends only on the rows'
    sets of labels. Let D be the number of distinct sets. A product with the n x n matrix of
    similarities is then computed as a sum over the rows of each set, followed by a product with a
    D x D matrix.

    Args:
        y: n whole numbers, truth values or texts, one class for each row, or a 0/1 array of shape
            `(n, classes)`. A row without labels is not similar to any row.
        n: int, the number of rows.
        name: str, the method's name in messages.

    Attributes:
        targets: float64 array of shape `(n, classes)`, 0/1.
        groups: int array of shape `(n,)`, the number of each row's set of labels.
        sets: float64 array of shape `(D, classes)`, 0/1, the distinct sets.

    Raises:
        UserError: y has another form, or all rows belong to one class.
    """

    def __init__(self, y, n, name):
        if y is None:
            raise UserError(
                f"{name} learns from labels: fit requires y to be passed, but the target y is None"
            )
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if len(np.atleast_1d(y)) != n or y.ndim not in (1, 2):
            raise UserError(f"y has shape {y.shape}, but X has {n} rows")
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise UserError("y contains NaN or infinity; give the class of each row")
        if y.ndim == 1:
            self.sets, self.groups = _classes(y)
        else:
            if y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all():
                raise UserError("y of shape (rows, classes) must contain only 0 and 1")
            sets, groups = np.unique(y.astype(np.int8), axis=0, return_inverse=True)
            self.sets, self.groups = sets.astype(np.float64), groups.reshape(-1)
        if len(self.sets) < 2:
            raise UserError(f"y has one class only; {name} needs two or more")

    @property
    def targets(self):
        return self.sets[self.groups]

    def similar(self):
        """Returns which sets have a label in common: float64 `(D, D)`, 0/1.

        Raises:
            UserError: there are too many distinct sets.
        """
        if len(self.sets) > MOST_SETS:
            raise UserError(
                f"y has {len(self.sets)} distinct sets of labels, but this method takes {MOST_SETS}; "
                "fit on fewer rows"
            )
        return (self.sets @ self.sets.T > 0).astype(np.float64)

    def sums(self, values):
        """Sums the rows of `(n, ...)` values over each set of labels: `(D, ...)`."""
        order = np.argsort(self.groups, kind="stable")
        starts = np.searchsorted(self.groups[order], np.arange(len(self.sets)))
        return np.add.reduceat(values[order], starts, axis=0)

    def subset(self, rows):
        """Returns the supervision of some rows. All sets of labels keep their numbers."""
        result = object.__new__(Supervision)
        result.sets, result.groups = self.sets, self.groups[rows]
        return result


def _classes(y):
    """Returns one-hot sets and their numbers, for labels with one class for each row."""
    if y.dtype.kind == "f":
        if (y != np.round(y)).any():
            raise UserError("y contains fractions, but classes are whole numbers or names")
    elif y.dtype.kind not in "biuUSO":
        raise UserError(f"y is {y.dtype}, but classes are whole numbers or names")
    try:
        values, groups = np.unique(y, return_inverse=True)
    except TypeError:
        raise UserError("y mixes numbers and names; give only one kind") from None
    return np.eye(len(values)), groups.reshape(-1)
