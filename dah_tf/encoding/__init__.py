"""Turns folders of images into packed codes: a SavedModel runs over every file, and goes on
where it was killed.

A folder of codes (`python -m dah_tf.encode --output=CODES`) holds, for `numpy.load`:

- `shards/NUMBER/codes.npy`: uint8 `(n, ceil(bits / 8))`, packed as in `dah_tf.codes`.
- `shards/NUMBER/keys.npy`: byte strings `(n,)`, what each image is called: its path as the
  system has it, or `tfds:NAME/SPLIT#ROW`.
- `shards/NUMBER/labels.npy`: byte strings `(n,)`, UTF-8, several of one image joined by `;`;
  empty where not known.
- `shards/NUMBER/shard.json`: number of items, the images that could not be read and why, size
  and CRC-32 of each array.
- `manifest.json`: `bits`, the model's `fingerprint`, what was encoded, the shards in order;
  written last, so that a folder with a manifest is complete.
- `broken.tsv`: key and reason of each image that could not be read, where there are any.

Shards follow the order of the input; a shard is made aside and appears whole.
"""

from dah_tf.codes.archive import Codes
from dah_tf.encoding.bulk import encode_folder
from dah_tf.encoding.encoder import Encoded, Encoder, find_model

__all__ = ["Codes", "Encoded", "Encoder", "encode_folder", "find_model"]
