"""The network: backbones, hash head and classifier in one `HashModel`.

Importing it makes every layer of its networks known to Keras, so that saved models load.
"""

from dah_tf.model.backbones import described  # noqa: F401 - layers that no other module imports
from dah_tf.model.hash_model import HashModel

__all__ = ["HashModel"]
