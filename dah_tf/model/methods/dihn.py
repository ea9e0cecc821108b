"""This module defines DIHN, which learns new classes while the codes of old images stay as they are."""

import numpy as np
from keras import ops

from dah_tf import codes as packed
from dah_tf.baselines.labels import Supervision
from dah_tf.baselines.rows import signs
from dah_tf.errors import UserError
from dah_tf.losses.floats import in_floats
from dah_tf.model.methods.base import Needs
from dah_tf.model.methods.relational import Relational


class DIHN(Relational):
    """Deep incremental hashing: values that agree with the codes of all training images.

    This is a reconstruction, because the paper's text could not be read. It builds on ADSH, whose
    formula and constants are those of the authors' code (`jiangqy/ADSH-AAAI2018`).

    Besides the weights of the network there are codes V of all n training images, with values -1
    and 1. Let `S_ij = 1` for similar images and `-r` for others, where r is the number of similar
    pairs divided by that of the others. With the values `h = tanh u`, the network minimises the
    mean over the images i of a group, and over all training images j, of

        (h_i . v_j - bits S_ij)^2 / bits,

    plus `gamma / (n bits)` times the mean of `|v_i - h_i|^2`, plus `balance` times the sum over the
    bits of the square of the group's mean value. The first two parts are those of ADSH, divided by
    `n bits`. The third part is our reading of the balance of DIHN, and its weight is ours.

    V begins with the signs of the first logits. Before the first step and then every few epochs,
    the network encodes a sample of the training images. Each bit of V is then set to its best
    value, given the other bits and the values of this sample. All sums over similar images are sums
    over sets of labels, so that no matrix has a row for each image of the sample and a column for
    each training image.

    The codes of old images never change. Old images are those whose labels all belong to the first
    `old_classes` classes. `old_codes` names a file with their codes. An index that holds these
    codes then stays as it is: the new network encodes the new images, which are added to it, and
    the queries. If there is no file, the old images keep the signs of the first logits.

    The codes of a database come from the network, as with every method. The authors of ADSH use V,
    which has seen the labels of the database.

    Args:
        gamma: float, the weight of the distance between values and codes.
        balance: float, the weight of the balance of the bits.
        sample: int, the number of training images that are encoded to renew V.
        renew_epochs: float, the number of epochs between two renewals of V.
        old_classes: int, the number of old classes. With 0 there are no old images.
        old_codes: str, the path of a `.npy` file with the packed codes of the old images in the
            order of the training images, as `HashModel.encode` returns them; or None.
        class_weight: float, the weight of a classification loss that the authors do not have.

    Raises:
        UserError: a value is out of its range, all images have the same labels, no class is new, or
            the file does not hold the codes of the old images.

    References:
        Wu, Dai, Liu, Li and Wang, "Deep incremental hashing network for efficient image retrieval",
        CVPR 2019. Jiang and Li, "Asymmetric deep supervised hashing", AAAI 2018.
    """

    name = "dihn"
    title = "DIHN (2019), a reconstruction"
    source = "reading"
    needs = Needs(rows=True)

    def __init__(
        self,
        *,
        gamma: float = 200.0,
        balance: float = 0.1,
        sample: int = 2000,
        renew_epochs: float = 1.0,
        old_classes: int = 0,
        old_codes: str | None = None,
        class_weight: float = 0.0,
    ):
        if old_codes and not old_classes:
            raise UserError("method dihn: old_codes needs old_classes, which says whose they are")
        self.keep(
            gamma=gamma,
            balance=balance,
            sample=sample,
            renew_epochs=renew_epochs,
            old_classes=old_classes,
            class_weight=class_weight,
            above_zero=["sample", "renew_epochs"],
        )
        self.old_codes = old_codes

    def variables(self, facts):
        """Returns the codes, which are 0 where they are not known yet, and sums over them.

        The entry `codes` is V, and `sets` is the number of each image's set of labels. The other
        entries are what the loss needs to know about V: the mean of `v v^T`, and for each set of
        labels the means of `S_ij v_j` and of `S_ij^2`.
        """
        n, bits = len(facts.labels), facts.bits
        supervision = self._supervision(facts)
        codes, sets = np.zeros((n, bits), "int8"), len(supervision.sets)
        old = self._old(facts)
        if self.old_codes:
            codes[old] = self._read(int(old.sum()), bits)
        return {
            "codes": codes,
            "sets": supervision.groups.astype("int32"),
            "products": np.zeros((bits, bits), "float32"),
            "wanted": np.zeros((sets, bits), "float32"),
            "squares": np.zeros(sets, "float32"),
        }

    def due(self, step, facts):
        return step % max(1, round(self.renew_epochs * facts.steps_per_epoch)) == 0

    def between(self, step, encode, state, facts):
        """Renews the codes of the images that are not old, and the sums over all codes."""
        n, bits = len(facts.labels), facts.bits
        supervision, codes = self._supervision(facts), state["codes"].astype(np.float64)
        first = np.flatnonzero(~codes.any(axis=1))
        if len(first):
            codes[first] = signs(encode(first)["logits"])
        rng = np.random.default_rng([facts.seed, step])
        rows = np.sort(rng.permutation(n)[: self.sample])
        values = 2.0 * encode(rows)["hash"].astype(np.float64) - 1.0
        new = ~self._old(facts)
        wanted = self._relations(supervision, rows, values)[supervision.groups] * bits
        wanted[rows] += self.gamma * values
        codes[new] = descend(codes[new], values.T @ values, wanted[new])
        every = np.arange(n)
        similarity = self._relations(supervision, every, np.ones((n, 1)), squared=True)
        return {
            "codes": codes.astype("int8"),
            "products": (codes.T @ codes / n).astype("float32"),
            "wanted": (self._relations(supervision, every, codes) / n).astype("float32"),
            "squares": (similarity[:, 0] / n).astype("float32"),
        }

    def compared(self, similar, outputs, state, step):
        """Computes the loss and its three parts. It knows the pairs from the sets of labels."""
        h = 2.0 * in_floats(outputs["hash"]) - 1.0
        rows, bits = outputs["rows"], h.shape[-1]
        sets = ops.take(state["sets"], rows, axis=0)
        products, wanted, squares = (
            ops.cast(state[name], h.dtype) for name in ("products", "wanted", "squares")
        )
        wanted, squares = ops.take(wanted, sets, axis=0), ops.take(squares, sets, axis=0)
        seen = ops.sum(h * (ops.matmul(h, products) / bits - 2.0 * wanted), axis=-1)
        pairs = ops.mean(seen + bits * squares)
        codes = ops.cast(ops.take(state["codes"], rows, axis=0), h.dtype)
        quantisation = ops.mean(ops.sum(ops.square(h - codes), axis=-1))
        balance = ops.mean(ops.sum(ops.square(ops.mean(h, axis=1)), axis=-1))
        pull = self.gamma / (state["codes"].shape[0] * bits)
        return {
            "loss": pairs + pull * quantisation + self.balance * balance,
            "pairs": pairs,
            "quantisation": quantisation,
            "balance": balance,
        }

    def _supervision(self, facts):
        return Supervision(facts.labels, len(facts.labels), "method dihn")

    def _relations(self, supervision, rows, values, squared=False):
        """Returns `sum_j S_aj x_j` over some rows j with values x, for each set of labels a.

        If `squared` is True, the sum is that of `S_aj^2 x_j`.
        """
        similar = supervision.similar()
        counts = np.bincount(supervision.groups).astype(np.float64)
        alike = counts @ similar @ counts
        other = alike / max(counts.sum() ** 2 - alike, 1.0)
        power = 2 if squared else 1
        sums = np.zeros((len(similar), values.shape[1]))
        np.add.at(sums, supervision.groups[rows], values)
        return (similar + (1.0 - similar) * (-other) ** power) @ sums

    def _old(self, facts):
        """Returns which training images are old, a bool array of shape `(n,)`."""
        if self.old_classes and self.old_classes >= facts.num_classes:
            raise UserError(
                f"method dihn: old_classes={self.old_classes} leaves no new class, because there "
                f"are {facts.num_classes} classes"
            )
        labels = np.asarray(facts.labels)
        if labels.ndim == 1:
            return labels < self.old_classes
        return (labels.any(axis=1)) & ~labels[:, self.old_classes :].any(axis=1)

    def _read(self, count, bits):
        """Reads the codes of the old images: an int8 array of -1 and 1."""
        try:
            found = np.load(self.old_codes, allow_pickle=False)
            found = packed.unpack(packed.check(found, bits), bits)
        except (OSError, ValueError) as error:
            raise UserError(
                f"method dihn: cannot read old_codes={self.old_codes}: {error}"
            ) from error
        if len(found) != count:
            raise UserError(
                f"method dihn: old_codes={self.old_codes} has {len(found)} codes, but {count} "
                f"training images are of the first {self.old_classes} classes"
            )
        return 2 * found.astype("int8") - 1


def descend(codes, gram, wanted):
    """Sets one bit after another of each code v to its best value for `v^T G v - 2 v . w`.

    Args:
        codes: float array of shape `(n, bits)` of -1 and 1.
        gram: float array of shape `(bits, bits)`, G in the formula, symmetric.
        wanted: float array of shape `(n, bits)`, a row w for each code.

    Returns:
        float array of shape `(n, bits)`. A bit stays as it is if both values are equally good.
    """
    codes = codes.copy()
    for bit in range(codes.shape[1]):
        others = gram[bit].copy()
        others[bit] = 0.0
        best = wanted[:, bit] - codes @ others
        codes[:, bit] = np.where(best == 0, codes[:, bit], signs(best))
    return codes
