"""The start, the progress display and the end of a command. No TensorFlow."""
