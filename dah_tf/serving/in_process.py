"""A SavedModel in the process of the client, through TensorFlow's C API."""

from dah_tf import pretrained
from dah_tf.errors import UserError
from dah_tf.serving import layout
from dah_tf.serving.c_api import SavedModel
from dah_tf.serving.failure import ServingError


class InProcess:
    """A loaded model. Several threads may share it.

    Args:
        path: a SavedModel, a folder that contains versions of one, or "pretrained:NAME".
        version: int, or None for the highest.

    Raises:
        UserError: there is no such SavedModel, or it cannot be loaded.
    """

    def __init__(self, path, version):
        folder = layout.saved_model(pretrained.exported(path), version)
        try:
            self._model = SavedModel(folder)
        except ServingError as error:
            raise UserError(f"{folder} cannot be loaded: {error}") from error
        if "serving_default" not in self._model.signatures:
            raise UserError(f"{folder} has no signature serving_default")
        self._version = int(folder.name) if folder.name.isdecimal() else None

    def predict(self, images, timeout):
        """Does the same as `Grpc.predict`."""
        return self._model.run("serving_default", {"image_bytes": images}, timeout), self._version

    def close(self):
        self._model.close()
