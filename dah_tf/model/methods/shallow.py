"""This module turns the shallow methods of `baselines` into methods of a `HashModel`.

The head of the model holds the constants that the shallow method has learned.
"""

from dah_tf import baselines, layers, parts
from dah_tf.baselines import base
from dah_tf.model.methods.base import Method

FORMS = {base.Linear: layers.LinearHash, base.Cosine: layers.CosineHash}


class Shallow(Method):
    """A method that learns in a single fit from features that it does not change.

    The class layer is a linear probe on the hash values. It is fitted by least squares.

    Args:
        text: str, a method of `baselines` and its options, such as "ksh:anchors=300".

    Raises:
        UserError: there is no such method or option.
    """

    one_fit = True
    loop = "dah_tf.training.shallow:Fit"

    def __init__(self, text):
        estimator = baselines.get(text)
        self.name = parts.parse(text).name
        self.title = estimator.TITLE
        self.source = estimator.SOURCE
        self.supervised = estimator.SUPERVISED
        self._estimator = estimator

    @property
    def options(self):
        names = parts.keys(type(self._estimator))
        return {name: getattr(self._estimator, name) for name in names}

    def estimator(self, bits: int, seed: int):
        """Makes an estimator that is not fitted yet, a `baselines.base.Hasher`."""
        return baselines.get(str(self), bits, seed)

    def head(self, bits):
        if isinstance(self._estimator, base.Kernel):
            return layers.KernelHash(bits, self._estimator.anchors, name="hash_head")
        (form,) = (FORMS[each] for each in type(self._estimator).__mro__ if each in FORMS)
        return form(bits, name="hash_head")

    def terms(self, labels, outputs, state, step):
        raise TypeError(f"{self.name} learns in one fit; it has no loss of a step")
