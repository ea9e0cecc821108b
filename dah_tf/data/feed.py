"""Provides the batches of a plan as `tf.data` and as NumPy arrays."""

import collections
import concurrent.futures


def dataset(plan, images, first, last, rows=False, views=1):
    """Returns the steps `[first, last)` of a plan as a `tf.data.Dataset`.

    Args:
        plan: `GroupPlan`.
        images: image source of `image_sources`.
        first, last: ints, steps of the run.
        rows: bool, whether to add the images' positions in the plan.
        views: 1, or 2 to add a second augmentation of the same images.

    Returns:
        `tf.data.Dataset` of pairs: a dict and the labels. The dict has `images`, uint8
        `(G, m, size, size, channels)`, and `augment`, int32 `(G, m, 5)`. If they are requested, it
        also has `rows`, int32 `(G, m)`, and `second`, which has the form of `augment`. The order
        and the contents are those of the plan.
    """
    import tensorflow as tf

    def plans():
        for step in range(first, last):
            batch = plan.batch(step, views)
            yield batch["indices"], _beside(batch, rows), batch["labels"]

    example = plan.batch(0, views)
    signature = (
        tf.TensorSpec(example["indices"].shape, tf.int64),
        {k: tf.TensorSpec(v.shape, v.dtype) for k, v in _beside(example, rows).items()},
        tf.TensorSpec(example["labels"].shape, example["labels"].dtype),
    )

    def load(indices, beside, labels):
        return {"images": images.tensors(indices), **beside}, labels

    batches = tf.data.Dataset.from_generator(plans, output_signature=signature)
    batches = batches.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = batches.prefetch(4)
    options = tf.data.Options()
    # Each replica takes its share of the groups of a batch (see `training`).
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options)


def arrays(plan, images, first, last, rows=False, views=1, ahead=2):
    """Yields the steps `[first, last)` of a plan as NumPy arrays. `dataset` explains the arguments.

    Args:
        ahead: int, the number of batches that a thread reads while one is in use.

    Yields:
        Pairs in the form of `dataset`.
    """

    def load(step):
        batch = plan.batch(step, views)
        return {"images": images.read(batch["indices"]), **_beside(batch, rows)}, batch["labels"]

    pending = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        for step in range(first, last + ahead):
            if step < last:
                pending.append(reader.submit(load, step))
            if step >= first + ahead:
                yield pending.popleft().result()


def _beside(batch, rows):
    """Returns a dict of the arrays that the network gets in a step in addition to the images."""
    names = ["augment", "second", *(["rows"] if rows else [])]
    return {name: batch[name] for name in names if name in batch}
