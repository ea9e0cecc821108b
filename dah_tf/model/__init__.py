"""The network: backbones, hash head and classifier in one `HashModel`."""

from dah_tf.model.hash_model import HashModel

__all__ = ["HashModel"]
