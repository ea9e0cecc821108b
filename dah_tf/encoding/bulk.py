"""Encodes many images into a folder of codes, in this process or on a Ray cluster."""

import os
from collections.abc import Callable, Sequence

from dah_tf import runtimes
from dah_tf.codes.archive import Codes
from dah_tf.encoding import job
from dah_tf.errors import UserError


def encode_folder(
    model: str | os.PathLike,
    images: str | os.PathLike,
    output: str | os.PathLike,
    *,
    labels: str = "auto",
    skip: Sequence[str | os.PathLike] = (),
    shard_items: int = 8192,
    batch_size: int = runtimes.BATCH,
    data_dir: str | None = None,
    runtime: str = "auto",
    runner: str = "local",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> Codes:
    """Encodes images into a folder of codes, or continues one that was stopped.

    Args:
        model: path of a SavedModel, of a folder that contains versions of one, or of a run; or
            "pretrained:NAME".
        images: a folder, `list:FILE` or `tfds:NAME/SPLIT`.
        output: path of the folder of codes.
        labels: the labels of the images in a folder. "folder" takes the name of the first
            subfolder; "auto" does so only if it is one of the model's classes; "none" stores no
            labels.
        skip: paths of folders of codes. Images that are in one of them are left out.
        shard_items: the number of images in a shard.
        batch_size: the number of images in a batch.
        data_dir: the folder in which TensorFlow Datasets keeps its data.
        runtime: a format to which the model was exported, such as "openvino:precision=int8".
            "auto" takes the fastest of those that give equal codes.
        runner: "local" is this process, and "ray" a Ray cluster.
        workers: the number of workers of Ray. None is one for each machine.
        say: function that gets a line of text for the user.

    Returns:
        The opened `Codes`. `broken.tsv` in its folder lists the images that could not be read.

    Raises:
        UserError: an argument is wrong, there is nothing to encode, another process writes to the
            folder, the folder contains something else, or the disk is full. The images that were
            encoded are kept.

    Example:
        >>> codes = encode_folder("runs/digits", "photos", "photos.codes", runtime="savedmodel")
        >>> packed, keys, labels = codes.read()
        >>> packed.shape, keys
        ((2, 2), ['photos/cat.png', 'photos/owl.png'])
    """
    if runner not in ("local", "ray"):
        raise UserError(f"runner={runner} must be local or ray")
    if runtime != "auto" and runner == "ray":
        raise UserError(
            f"runtime={runtime} needs runner=local, because the workers of Ray use the SavedModel"
        )
    if workers is not None and runner != "ray":
        raise UserError(f"workers={workers} needs runner=ray")
    chosen = None if runtime == "auto" else runtimes.name_of(runtime)

    def locally(work):
        from dah_tf.encoding import choice
        from dah_tf.encoding.encoder import Encoder

        if chosen is None:
            encoder = choice.fastest(work.model, batch_size, say)
        else:
            encoder = Encoder(work.model, chosen)
        work.encode_missing(encoder, batch_size)

    def on_cluster(work):
        from dah_tf.encoding import cluster

        shards = work.missing()
        with work.progress(shards) as shown:
            done, broken = work.source.items - work.items_of(shards), 0
            for shard, lost in cluster.encode(work, shards, batch_size, workers):
                done, broken = done + work.items_of([shard]), broken + lost
                shown.update(done, {"broken": broken})

    job.run(
        model,
        os.fspath(images),
        output,
        labels=labels,
        skip=skip,
        shard_items=shard_items,
        data_dir=data_dir,
        runtime=chosen,
        work=locally if runner == "local" else on_cluster,
    )
    return Codes.open(output)
