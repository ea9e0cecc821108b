"""Methods that use all of the seam, for its tests; as a script it trains one, under any back end."""

import sys

import numpy as np
from keras import ops

from dah_tf.model import methods
from dah_tf.training import loop

EVERY = 3


class Bank(methods.Method):
    """Pulls hash values to a bank of earlier ones, and to those of a second view."""

    name = "bank"
    title = "A bank (a test's)"
    needs = methods.Needs(rows=True, feature_map=True, views=2, smallest_group=4, splits=False)

    def __init__(self, *, pull: float = 1.0):
        self.pull = pull

    def terms(self, labels, outputs, state, step):
        state["count"].assign_add(1)
        bank = ops.take(state["bank"], outputs["rows"], axis=0)
        pull = ops.mean(ops.square(outputs["logits"] - bank))
        views = ops.mean(ops.square(outputs["hash"] - outputs["second"]["hash"]))
        flat = ops.mean(ops.square(outputs["map"]))
        return {
            "loss": self.pull * pull + views + 0.01 * flat,
            "pull": pull,
            "views": views,
            "step": ops.cast(step, "float32"),
            "count": ops.cast(state["count"], "float32"),
        }

    def variables(self, facts):
        shape = len(facts.labels), facts.bits
        bank = np.random.default_rng(facts.seed).normal(size=shape)
        return {"bank": bank.astype("float32"), "count": np.zeros((), "int32")}

    def due(self, step, facts):
        return step > 0 and step % EVERY == 0

    def between(self, step, encode, state, facts):
        logits = encode(np.arange(len(facts.labels)))["logits"]
        noise = np.random.default_rng([facts.seed, step]).normal(size=logits.shape)
        return {"bank": (0.5 * state["bank"] + np.sign(logits) + 0.1 * noise).astype("float32")}


class Named(loop.Run):
    """A loop of its own."""

    def fit(self):
        super().fit()
        self.model.fitted_by = "Named"


def model(method):
    """A small model, images of three classes and their labels."""
    import keras

    from dah_tf.model import HashModel, backbones

    keras.utils.set_random_seed(0)
    backbone = backbones.get("compact:widths=8/8/8,depth=1", channels=1)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 8).astype("int32")
    images = rng.integers(0, 100, (24, 16, 16, 1)) + 60 * labels[:, None, None, None]
    return HashModel(backbone, 6, 3, image_size=16, method=method), labels, images.astype("uint8")


def interrupted(folder, stop):
    """Trains `Bank` for 8 steps at once, or in two parts; returns the last model and the log."""
    from training_runs import train

    log = []
    for part in [{"stop": stop}, {}] if stop else [{}]:
        made, labels, images = model(Bank())
        made, rows = train(made, labels, images, folder, 8, checkpoint_steps=100, **part)
        log += rows
    return made, log


def main(output, folder):
    """Writes the weights, the state and the log of a whole run and of an interrupted one."""
    found = {}
    for stop in (0, 5, 6):
        made, log = interrupted(f"{folder}/{stop}", stop)
        arrays = [*made.weights, *made.state.values()]
        found |= {f"{stop}.{i}": np.asarray(each) for i, each in enumerate(arrays)}
        found[f"{stop}.log"] = np.array([[*row.values()] for row in log])
        found[f"{stop}.names"] = [*log[0]]
    np.savez(output, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
