"""Encodes many images: `python -m dah_tf.encode --model=MODEL --input=FOLDER --output=CODES`.

The codes are written in shards, with the paths of the images, and with labels if they are known.
The documentation of dah_tf/encoding describes the format. If the command is killed, run it again;
it continues where it stopped. Images that cannot be read are listed in CODES/broken.tsv, and the
others are encoded.

  --input=photos              all image files in a folder and its subfolders, except those whose
                              names start with a dot
  --input=list:paths.txt      a text file with one path on each line, optionally followed by a tab
                              and a label; the lines may also end with NUL bytes
  --input=tfds:cifar10/test   a split of a data set of TensorFlow Datasets
"""

import os

from absl import flags

from dah_tf import runtimes
from dah_tf.errors import UserError
from dah_tf.terminal import cli

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of the command."""
    flags.DEFINE_string(
        "model",
        None,
        "model: a SavedModel, a folder that contains versions of one, the folder of a run, or "
        "pretrained:NAME.",
    )
    flags.DEFINE_string("input", None, "input: FOLDER, list:FILE or tfds:NAME/SPLIT.")
    flags.DEFINE_string("output", None, "output: the folder of codes, which is made or continued.")
    flags.DEFINE_enum(
        "labels",
        "auto",
        ["auto", "folder", "none"],
        "labels: the labels of the images in a folder. folder takes the name of the first "
        "subfolder as the label; auto does so only if it is one of the model's classes; none "
        "stores no labels.",
    )
    flags.DEFINE_list(
        "skip", [], "skip: folders of codes. Images whose paths are in one of them are left out."
    )
    flags.DEFINE_integer(
        "batch_size", runtimes.BATCH, "batch_size: the number of images in a batch.", 1
    )
    flags.DEFINE_integer("shard_items", 8192, "shard_items: the number of images in a shard.", 1)
    flags.DEFINE_string(
        "data_dir", None, "data_dir: the folder in which TensorFlow Datasets keeps its data."
    )
    flags.DEFINE_string(
        "runtime",
        "auto",
        "runtime: one of the formats to which the model was exported. auto takes the fastest of "
        "those that are installed and give equal codes.",
    )
    flags.DEFINE_enum(
        "runner",
        "local",
        ["local", "ray"],
        "runner: local encodes in this process, and ray in a Ray cluster.",
    )
    flags.DEFINE_integer(
        "workers",
        None,
        "workers: the number of workers of ray. By default there is one for each machine.",
        1,
    )


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
    print(f"{len(codes):,} codes of {codes.bits} bits are in {FLAGS.output}")
    if ignored := codes.manifest.get("ignored"):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(ignored.items()))
        print(f"files that are not images were ignored: {kinds}")
    if broken := codes.manifest["broken"]:
        where = os.path.join(FLAGS.output, "broken.tsv")
        print(f"{broken:,} images could not be read; they are listed in {where}")


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__)
