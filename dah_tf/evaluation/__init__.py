"""Retrieval quality of codes, of a trained model, and of reference points."""
