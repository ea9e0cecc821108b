"""Losses: small pure functions of tensors."""

from dah_tf.losses import binarisation, centres
from dah_tf.losses.classification import accuracy, cross_entropy
from dah_tf.losses.dah import PairwiseTerms, pairwise, similarity
from dah_tf.losses.pairs import pair_likelihood, quantisation

__all__ = [
    "PairwiseTerms",
    "accuracy",
    "binarisation",
    "centres",
    "cross_entropy",
    "pair_likelihood",
    "pairwise",
    "quantisation",
    "similarity",
]
