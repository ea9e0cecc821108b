"""Turns folders of images into packed codes. If it is killed, it can continue where it stopped.

A folder of codes (`python -m dah_tf.encode --output=CODES`) contains these files. `numpy.load`
reads the arrays.

- `shards/NUMBER/codes.npy`: uint8 `(n, ceil(bits / 8))`, packed as in `dah_tf.codes`.
- `shards/NUMBER/keys.npy`: byte strings `(n,)`, the key of each image. It is the path of a file, or
  `tfds:NAME/SPLIT#ROW`.
- `shards/NUMBER/labels.npy`: byte strings `(n,)` in UTF-8. Several labels of one image are joined
  by `;`. The string is empty if the label is not known.
- `shards/NUMBER/shard.json`: the number of items, the size and CRC-32 of each array, and the images
  that could not be read, with the reasons.
- `manifest.json`: `bits`, the `fingerprint` of the model, what was encoded, and the shards in
  order. It is written last, so that a folder with a manifest is complete.
- `broken.tsv`: the key and the reason of each image that could not be read, if there are any.

The shards follow the order of the input. A shard becomes visible only when it is complete.
"""

from dah_tf.codes.archive import Codes
from dah_tf.encoding.bulk import encode_folder
from dah_tf.encoding.encoder import Encoded, Encoder, find_model

__all__ = ["Codes", "Encoded", "Encoder", "encode_folder", "find_model"]
