"""This package trains a model: it resolves settings, runs the loop, saves and finishes a run."""
