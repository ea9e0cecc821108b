"""Retrieval quality of binary codes, exact and without sorting. NumPy only.

A Hamming distance of k-bit codes takes k + 1 values, so all that a ranking metric needs of a query
is two histograms over the distance: how many database items lie there, and how many of them are
relevant. `histograms` makes them; equal codes are counted together, so the work grows with the
number of distinct codes. Every ranking metric starts from these two arrays.

Conventions, which every report states:

- relevant is an item of the query's class, or one with at least one of the query's labels;
- items at the same distance are tied. `expected` is the mean over all orders of tied items,
  `worst` and `best` are the bounds over them;
- average precision divides by the number of relevant items retrieved within the cut-off; it is 0
  for a query that retrieves none;
- precision of the top n divides by n, or by the size of a smaller database;
- precision within a radius is 0 where nothing lies within it, and is also given as the mean over
  the other queries; recall is 0 where nothing is relevant.

Example:
    >>> relevant, total = histograms(query_codes, query_labels, codes, labels, bits=36)
    >>> mean_average_precision(relevant, total, cutoff=1000).expected
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
