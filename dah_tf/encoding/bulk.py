"""Many images to a folder of codes, in this process or on a Ray cluster."""

import os
from collections.abc import Callable, Sequence

from dah_tf import runtimes
from dah_tf.codes.archive import Codes
from dah_tf.encoding import job
from dah_tf.errors import UserError


def encode_folder(
    model,
    images,
    output,
    *,
    labels: str = "auto",
    skip: Sequence = (),
    shard_items: int = 8192,
    batch_size: int = runtimes.BATCH,
    data_dir: str | None = None,
    runtime: str = "auto",
    runner: str = "local",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> Codes:
    """Encodes images into a folder of codes, or goes on with one that was stopped.

    Args:
        model: path of a SavedModel, of a folder of its versions or of a run, or "pretrained:NAME".
        images: a folder, `list:FILE` or `tfds:NAME/SPLIT`.
        output: path of the folder of codes.
        labels: of a folder's images: "auto" takes the first folder's name where it is one of the
            model's classes, "folder" takes it always, "none" never.
        skip: paths of folders of codes; images that are in one are left out.
        shard_items: images of a shard.
        batch_size: images that the model takes at a time.
        data_dir: the folder in which TensorFlow Datasets keeps its data.
        runtime: a format that the model was exported to, such as "openvino:precision=int8";
            "auto" takes the fastest here of those that give equal codes.
        runner: "local" is this process, "ray" a Ray cluster.
        workers: the number of Ray's workers; None is one for each machine.
        say: function of a line of text.

    Returns:
        `Codes`, opened; `broken.tsv` in its folder lists the images that could not be read.

    Raises:
        UserError: bad arguments, nothing to encode, another process encodes there, the folder
            holds something else, or the disk is full; what was encoded is kept.

    Example:
        >>> codes = encode_folder("pretrained:cifar10-compact-36", "photos", "photos.codes")
        >>> packed, keys, labels = codes.read()
    """
    if runner not in ("local", "ray"):
        raise UserError(f"runner={runner} must be local or ray")
    if runtime != "auto" and runner == "ray":
        raise UserError(f"runtime={runtime} is for runner=local; Ray's workers use the SavedModel")
    if workers is not None and runner != "ray":
        raise UserError(f"workers={workers} is for runner=ray")
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
