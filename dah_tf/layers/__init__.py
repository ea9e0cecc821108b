"""The layers of the networks, written in `keras.ops`.

Importing this package registers them with Keras, so that saved models can be loaded.
"""

from dah_tf.layers.attention import CBAM, ChannelAttention, SpatialAttention
from dah_tf.layers.bottleneck import SeparableBottleneck
from dah_tf.layers.cpu.convolution import Conv3x3
from dah_tf.layers.cpu.fusion import Activation
from dah_tf.layers.hashing import HashHead, ShiftedTanh, ShrinkSigmoid
from dah_tf.layers.initializers import PartialIdentity
from dah_tf.layers.normalised_heads import BatchNormHead, CosineClassifier, LayerNormHead
from dah_tf.layers.normalization import BatchNorm
from dah_tf.layers.ordinal import OrdinalHash
from dah_tf.layers.package import PACKAGE
from dah_tf.layers.preprocess import PixelTransform
from dah_tf.layers.regions import RegionHash
from dah_tf.layers.saliency import SaliencyHash
from dah_tf.layers.shallow import CosineHash, KernelHash, LinearHash
from dah_tf.layers.slices import SlicedHash, thresholded
from dah_tf.layers.weighted import WeightedHash

__all__ = [
    "CBAM",
    "PACKAGE",
    "Activation",
    "BatchNorm",
    "BatchNormHead",
    "ChannelAttention",
    "Conv3x3",
    "CosineClassifier",
    "CosineHash",
    "HashHead",
    "KernelHash",
    "LayerNormHead",
    "LinearHash",
    "OrdinalHash",
    "PartialIdentity",
    "PixelTransform",
    "RegionHash",
    "SaliencyHash",
    "SeparableBottleneck",
    "ShiftedTanh",
    "ShrinkSigmoid",
    "SlicedHash",
    "SpatialAttention",
    "WeightedHash",
    "thresholded",
]
