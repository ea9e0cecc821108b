"""A training run: what its settings stand for, its loop, its checkpoints, its end."""
