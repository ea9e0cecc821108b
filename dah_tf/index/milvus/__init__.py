"""An index in Milvus, for more codes than one machine can hold."""

from dah_tf.index.milvus.index import MilvusIndex
from dah_tf.index.milvus.names import is_milvus
from dah_tf.index.milvus.storing import BACKENDS

__all__ = ["BACKENDS", "MilvusIndex", "is_milvus"]
