"""Exported models: writing them, checking them as TensorFlow Serving will, and asking them."""

from dah_tf.serving.client import Answer as Answer
from dah_tf.serving.client import Client as Client
from dah_tf.serving.failure import ServingError as ServingError
