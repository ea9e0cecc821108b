"""Data sets, evaluation protocols, and the plan that forms class-balanced groups."""

from dah_tf.data.dataset import Dataset, Unreadable
from dah_tf.data.datasets import load
from dah_tf.data.outline import Outline, outline
from dah_tf.data.plan import GroupPlan
from dah_tf.data.protocols import Protocol
from dah_tf.data.protocols import choose as choose_protocol
from dah_tf.data.protocols import make as make_protocol
from dah_tf.data.summary import describe

__all__ = [
    "Dataset",
    "GroupPlan",
    "Outline",
    "Protocol",
    "Unreadable",
    "choose_protocol",
    "describe",
    "load",
    "make_protocol",
    "outline",
]
