"""Uses the pixels themselves as features. NumPy only."""

import numpy as np

from dah_tf.baselines.features.base import Feature


class Pixels(Feature):
    """All values of an image, row by row and scaled to 0..1: `h * w * channels` numbers."""

    name = "pixels"

    def _describe(self, images):
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
