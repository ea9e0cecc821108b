"""A run's folder: what it was begun with, what it logs, and grids of runs. No TensorFlow."""
