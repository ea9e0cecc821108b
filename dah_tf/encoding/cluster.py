"""Encodes the shards of a job on the workers of a Ray cluster, with Ray Data.

Every machine needs dah_tf, and must see the folder of the job, the model and the images under the
same paths. A worker may die at any time, because a shard becomes visible only when it is complete.
Ray then gives the shard to another worker. If two workers write the same shard, the first counts.
"""

import logging
import os

from dah_tf.errors import UserError


class ShardEncoder:
    """A worker that loads the model once and then encodes one shard after the other.

    Args:
        folder: str, absolute path of the folder of codes.
        model: str, absolute path of the SavedModel.
        batch_size: int.
    """

    def __init__(self, folder, model, batch_size):
        from dah_tf.encoding import job
        from dah_tf.encoding.encoder import Encoder

        self._job, self._batch_size = job.Job(folder, model), batch_size
        self._encoder = Encoder(model)

    def __call__(self, batch):
        """Encodes the shard in `batch["shard"]` of shape `(1,)`, and adds its broken images."""
        [shard] = (int(number) for number in batch["shard"])
        broken = 0
        if shard in self._job.missing():
            for _, broken in self._job.encode(self._encoder, [shard], self._batch_size):
                pass
        return {**batch, "broken": [broken]}


def encode(job, shards, batch_size, workers=None):
    """Encodes shards of a job on a Ray cluster.

    The environment variable RAY_ADDRESS names the cluster. Without it, Ray runs on this machine.

    Args:
        job: `Job`.
        shards: list of int.
        batch_size: int.
        workers: int. None is one for each machine of the cluster.

    Yields:
        A pair of ints for each finished shard, in any order: the shard, and the number of its
        images that could not be read.

    Raises:
        UserError: Ray is missing or cannot be reached, or a shard fails on every worker.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("runner=ray needs Ray: python -m pip install 'dah_tf[ray]'") from None
    # Otherwise Ray would report every restart of a worker on the screen.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    there = os.environ.get("RAY_ADDRESS")
    options = {"address": there} if there else {"include_dashboard": False}
    started = not ray.is_initialized()
    try:
        if started:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"cannot reach Ray: {str(error).splitlines()[0]}") from error
    try:
        yield from _encode(ray, job, shards, batch_size, workers)
    finally:
        if started:
            ray.shutdown()


def _encode(ray, job, shards, batch_size, workers):
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers = workers or sum(node["Alive"] for node in ray.nodes())
    rows = ray.data.from_items([{"shard": n} for n in shards], override_num_blocks=len(shards))
    found = rows.map_batches(
        ShardEncoder,
        fn_constructor_args=(str(job.folder.absolute()), job.model, batch_size),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(shards))),
        num_cpus=1,
    )
    try:
        for row in found.iter_rows():
            yield int(row["shard"]), int(row["broken"])
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"the cluster could not encode every shard: {reason}; run the same command again to "
            "encode the others"
        ) from error
