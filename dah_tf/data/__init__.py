"""Data sets, protocols, and the plan of class-balanced groups."""

from dah_tf.data.datasets import Dataset, load
from dah_tf.data.plan import GroupPlan
from dah_tf.data.protocols import Protocol
from dah_tf.data.protocols import choose as choose_protocol
from dah_tf.data.protocols import make as make_protocol

__all__ = ["Dataset", "GroupPlan", "Protocol", "choose_protocol", "load", "make_protocol"]
