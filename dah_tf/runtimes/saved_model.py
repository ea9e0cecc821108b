"""The SavedModel format, which TensorFlow runs."""

from dah_tf.errors import UserError
from dah_tf.runtimes.opening import opening

TITLE = "TensorFlow"
FILES = ("saved_model.pb",)
EXTRA, PACKAGES = "", ("tensorflow",)
EXACT = True

SIGNATURE = "pixels"


def load(folder, threads):
    """Runs the `pixels` signature. TensorFlow chooses the number of threads itself."""
    import tensorflow as tf

    path = folder / FILES[0]
    # Damaged variables raise an `OpError`, and variables that are cut short an `IndexError`. A
    # graph without the tag raises a `RuntimeError`.
    with opening(path, OSError, IndexError, tf.errors.OpError, RuntimeError):
        model = tf.saved_model.load(str(folder), tags=[tf.saved_model.SERVING])
    if SIGNATURE not in model.signatures:
        raise UserError(f"{path} has no signature {SIGNATURE}; export it again")
    signature = model.signatures[SIGNATURE]

    def run(pixels):
        found = signature(pixels=tf.convert_to_tensor(pixels, tf.uint8))
        return {name: value.numpy() for name, value in found.items()}

    run.model = model  # The signature alone does not keep its variables.
    return run
