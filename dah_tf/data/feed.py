"""Batches of a plan, as `tf.data` and as NumPy arrays."""

import collections
import concurrent.futures


def dataset(plan, images, first, last):
    """The steps `[first, last)` of a plan as a `tf.data.Dataset`.

    Args:
        plan: `GroupPlan`.
        images: image source of `sources`.
        first, last: ints, steps of the run.

    Returns:
        `tf.data.Dataset` of pairs: a dict of `images`, uint8 `(G, m, size, size, channels)`, and
        `augment`, int32 `(G, m, 5)`; and the labels. Order and contents are the plan's.
    """
    import tensorflow as tf

    def plans():
        for step in range(first, last):
            batch = plan.batch(step)
            yield batch["indices"], batch["augment"], batch["labels"]

    shape = (plan.groups, plan.group_size)
    labels = plan.batch(0)["labels"]
    signature = (
        tf.TensorSpec(shape, tf.int64),
        tf.TensorSpec((*shape, 5), tf.int32),
        tf.TensorSpec(labels.shape, labels.dtype),
    )

    def load(indices, augment, labels):
        return {"images": images.tensors(indices), "augment": augment}, labels

    batches = tf.data.Dataset.from_generator(plans, output_signature=signature)
    batches = batches.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = batches.prefetch(4)
    options = tf.data.Options()
    # Each replica takes its share of the groups of a batch, see `training`.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options)


def arrays(plan, images, first, last, ahead=2):
    """The steps `[first, last)` of a plan as NumPy arrays. Arguments: `dataset`.

    Args:
        ahead: int, batches read by a thread while one is in use.

    Yields:
        Pairs as of `dataset`.
    """

    def load(step):
        batch = plan.batch(step)
        pixels = images.read(batch["indices"])
        return {"images": pixels, "augment": batch["augment"]}, batch["labels"]

    pending = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        for step in range(first, last + ahead):
            if step < last:
                pending.append(reader.submit(load, step))
            if step >= first + ahead:
                yield pending.popleft().result()
