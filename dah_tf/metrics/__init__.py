"""Exact retrieval quality of binary codes without sorting. NumPy only.

The Hamming distance of k-bit codes has k + 1 possible values. A ranking metric therefore needs only
two histograms over the distance for each query: the number of database items at each distance, and
the number of relevant ones among them. `histograms` makes these two arrays, and every ranking
metric starts from them. Equal codes are counted together, so that the work grows with the number of
distinct codes.

These conventions hold, and every report states them:

- An item is relevant if it has the class of the query, or at least one of the query's labels.
- Items at the same distance are tied. `expected` is the mean over all orders of tied items, and
  `worst` and `best` are the bounds.
- Average precision divides by the number of relevant items that are retrieved within the cut-off.
  It is 0 for a query that retrieves none.
- Precision of the top n divides by n, or by the size of a smaller database.
- Precision within a radius is 0 if nothing is within it. It is also given as the mean over the
  other queries. Recall is 0 if no item is relevant.

Example:
    >>> import numpy as np
    >>> codes = np.array([[0], [1], [3], [255]], np.uint8)
    >>> labels = np.array([0, 1, 0, 1])
    >>> found, total = histograms(codes[:1], labels[:1], codes, labels, bits=8)
    >>> mean_average_precision(found, total).expected  # the ranks 1 and 3: (1 / 1 + 2 / 3) / 2
    0.8333333333333333
"""

from dah_tf.metrics.curves import (
    Radii,
    TopCurve,
    class_means,
    precision_at,
    precision_within,
    radius_curve,
    top_curve,
)
from dah_tf.metrics.graded import (
    Graded,
    graded_histograms,
    ndcg,
    weighted_average_precision,
)
from dah_tf.metrics.grouping import Grouped, histograms, relevant
from dah_tf.metrics.health import (
    Balance,
    bit_balance,
    bit_correlation,
    bit_entropy,
    class_distances,
    collisions,
    distance_to_centre,
)
from dah_tf.metrics.ranking import Bounds, average_precision, mean_average_precision
from dah_tf.metrics.scores import cosine_ranking

__all__ = [
    "Balance",
    "Bounds",
    "Graded",
    "Grouped",
    "Radii",
    "TopCurve",
    "average_precision",
    "bit_balance",
    "bit_correlation",
    "bit_entropy",
    "class_distances",
    "class_means",
    "collisions",
    "cosine_ranking",
    "distance_to_centre",
    "graded_histograms",
    "histograms",
    "mean_average_precision",
    "ndcg",
    "precision_at",
    "precision_within",
    "radius_curve",
    "relevant",
    "top_curve",
    "weighted_average_precision",
]
