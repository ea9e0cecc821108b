"""Exported models for TensorFlow Serving: their layout, a check, and a client."""

from dah_tf.serving.client import Answer as Answer
from dah_tf.serving.client import Client as Client
from dah_tf.serving.failure import ServingError as ServingError
