"""Encodes many images: `python -m dah_tf.encode --model=MODEL --input=FOLDER --output=CODES`.

The codes are written in shards with the images' paths, and labels where they are known; their
format is described in dah_tf/encoding. Killed at any moment, the same command goes on where it
stopped. Images that cannot be read are listed in CODES/broken.tsv and stop nothing.

  --input=photos              every file in a folder and the folders in it, but what
                              begins with a dot
  --input=list:paths.txt      a path a line, and optionally a tab and a label; or ended by NULs
  --input=tfds:cifar10/test   a split of a TensorFlow data set
"""

import os

from absl import flags

from dah_tf import runtimes
from dah_tf.errors import UserError
from dah_tf.terminal import cli

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command."""
    flags.DEFINE_string(
        "model", None, "A SavedModel, a folder of its versions, a run, or pretrained:NAME."
    )
    flags.DEFINE_string("input", None, "FOLDER, list:FILE or tfds:NAME/SPLIT.")
    flags.DEFINE_string("output", None, "The folder of codes to make, or to go on with.")
    flags.DEFINE_enum(
        "labels",
        "auto",
        ["auto", "folder", "none"],
        "Of a folder's images. auto: the first folder's name where it is one of the model's "
        "classes; folder: whatever its name.",
    )
    flags.DEFINE_list("skip", [], "Folders of codes: images whose paths are in one are left out.")
    flags.DEFINE_integer("batch_size", runtimes.BATCH, "Images that the model takes at a time.", 1)
    flags.DEFINE_integer("shard_items", 8192, "Images of a shard.", 1)
    flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
    flags.DEFINE_string(
        "runtime",
        "auto",
        "One of the formats that the model was exported to; auto: the fastest here of those "
        "that are installed and give equal codes.",
    )
    flags.DEFINE_enum("runner", "local", ["local", "ray"], "This process, or a Ray cluster.")
    flags.DEFINE_integer("workers", None, "Of ray; None: one a machine.", 1)


def main():
    from dah_tf.encoding import encode_folder

    for name, example in (("model", "models/dah"), ("input", "photos"), ("output", "codes")):
        if not FLAGS[name].value:
            raise UserError(f"name the {name}: {name}={example}")
    codes = encode_folder(
        FLAGS.model,
        FLAGS.input,
        FLAGS.output,
        labels=FLAGS.labels,
        skip=FLAGS.skip,
        shard_items=FLAGS.shard_items,
        batch_size=FLAGS.batch_size,
        data_dir=FLAGS.data_dir,
        runtime=FLAGS.runtime,
        runner=FLAGS.runner,
        workers=FLAGS.workers,
    )
    print(f"{len(codes):,} codes of {codes.bits} bits in {FLAGS.output}")
    if ignored := codes.manifest.get("ignored"):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(ignored.items()))
        print(f"files that are no images were ignored: {kinds}")
    if broken := codes.manifest["broken"]:
        where = os.path.join(FLAGS.output, "broken.tsv")
        print(f"{broken:,} images could not be read: {where}")


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__)
