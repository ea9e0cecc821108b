"""Losses: small pure functions of tensors."""

from dah_tf.losses import binarisation, centres
from dah_tf.losses.classification import accuracy, cross_entropy
from dah_tf.losses.dah import PairwiseTerms, pairwise, similarity
from dah_tf.losses.histograms import (
    distance_histograms,
    mutual_information,
    relaxed_average_precision,
)
from dah_tf.losses.pairs import (
    absolute_quantisation,
    balanced_likelihood,
    contrastive,
    pair_likelihood,
    quantisation,
    squared_quantisation,
)
from dah_tf.losses.policy import bit_entropy, policy_gradient, uniform
from dah_tf.losses.triplets import triplet_hinge, triplet_likelihood

__all__ = [
    "PairwiseTerms",
    "absolute_quantisation",
    "accuracy",
    "balanced_likelihood",
    "binarisation",
    "bit_entropy",
    "centres",
    "contrastive",
    "cross_entropy",
    "distance_histograms",
    "mutual_information",
    "pair_likelihood",
    "pairwise",
    "policy_gradient",
    "quantisation",
    "relaxed_average_precision",
    "similarity",
    "squared_quantisation",
    "triplet_hinge",
    "triplet_likelihood",
    "uniform",
]
