"""TensorFlow."""

TITLE = "TensorFlow"
FILES = ("saved_model.pb",)
EXTRA, PACKAGES = "", ("tensorflow",)
EXACT = True


def load(folder, threads):
    """Runs the `pixels` signature; `threads` are TensorFlow's own."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    signature = model.signatures["pixels"]

    def run(pixels):
        found = signature(pixels=tf.convert_to_tensor(pixels, tf.uint8))
        return {name: value.numpy() for name, value in found.items()}

    run.model = model  # the signature alone does not keep its variables
    return run
