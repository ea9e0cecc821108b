"""Losses: small pure functions of tensors."""

from dah_tf.losses.dah import PairwiseTerms, pairwise, similarity

__all__ = ["PairwiseTerms", "pairwise", "similarity"]
