"""How a command starts, shows its progress and ends. No TensorFlow."""
