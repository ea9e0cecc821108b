"""This package holds the network: a backbone, a hash head and a classifier in a `HashModel`.

Importing the package registers every layer of its networks with Keras, so that saved models load.
"""

from dah_tf.model.backbones import described  # noqa: F401 - layers that no other module imports
from dah_tf.model.hash_model import HashModel

__all__ = ["HashModel"]
