"""The folder of a training run: its settings, its logs, and grids of runs. No TensorFlow."""
