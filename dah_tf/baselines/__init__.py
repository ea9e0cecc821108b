"""Shallow hash methods as scikit-learn estimators. A text such as `ksh:anchors=1000` names one.

They learn from rows of features. `baselines.features` computes some kinds of features from images.
Only NumPy, SciPy and scikit-learn are needed. `base` describes what a method is and how to add one.

Example:
    >>> method = get("sdh", n_bits=36, random_state=0)
    >>> codes = method.fit(x_train, y_train).transform(x)
    >>> method.save("sdh.npz")
    >>> again = load("sdh.npz")
"""

from dah_tf import parts

__all__ = ["METHODS", "get", "load"]

METHODS = {
    "lsh": "dah_tf.baselines.lsh:LSH",
    "sh": "dah_tf.baselines.sh:SH",
    "pcah": "dah_tf.baselines.pcah:PCAH",
    "itq": "dah_tf.baselines.itq:ITQ",
    "itq_cca": "dah_tf.baselines.itq_cca:ITQCCA",
    "ksh": "dah_tf.baselines.ksh:KSH",
    "sdh": "dah_tf.baselines.sdh:SDH",
    "cosdish": "dah_tf.baselines.cosdish:COSDISH",
}


def get(text: str, n_bits: int = 36, random_state: int | None = 0):
    """Returns the method that a text names. The method is not fitted yet.

    Args:
        text: str, `name` or `name:option=value,...`.
        n_bits: int, the code length.
        random_state: int, the seed, or None to draw a new one each time.

    Returns:
        `base.Hasher`.

    Raises:
        UserError: there is no such method or option. The values of options are checked by `fit`.
    """
    return parts.build("method", text, METHODS, n_bits, random_state)


def load(path):
    """Loads a fitted method that `base.Hasher.save` wrote.

    Args:
        path: path of the file.

    Returns:
        `base.Hasher` of the class that was saved.

    Raises:
        UserError: the file does not exist, is damaged, or does not hold a method.
    """
    from dah_tf.baselines import saving

    return saving.load(path, METHODS)
