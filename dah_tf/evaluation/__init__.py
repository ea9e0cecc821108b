"""Retrieval quality: of codes, of a trained model, and of what it is compared with."""
