"""What turns images into codes for the service: a model in this process, or TensorFlow Serving."""

import typing

import numpy as np

from dah_tf import images
from dah_tf.machine import cores
from dah_tf.web.batching import BATCH

# While a decoder resizes an image, it holds the pixels as bytes and as floats.
BYTES_OF_A_PIXEL = 3 * (1 + 4)


class Output(typing.NamedTuple):
    """The result for one image.

    Attributes:
        code: uint8 array of shape `(ceil(bits / 8),)`.
        values: float32 array of shape `(bits,)`, the values of the hash layer, or None.
    """

    code: np.ndarray
    values: np.ndarray | None


class Local:
    """A model in this process.

    Args:
        encoder: `dah_tf.encoding.Encoder`, or an object with the same attributes.

    Attributes:
        bits: int, the code length.
        fingerprint: str, the fingerprint of the model, or None.
        classes: list of str, the classes of the model.
        span: the lowest and the highest hash value, or None if the values are not known.
        image_size: int, the side of the images that the model takes, or None.
    """

    def __init__(self, encoder):
        self._encoder = encoder
        self.bits, self.fingerprint = encoder.bits, encoder.fingerprint
        self.classes, self.span = list(encoder.classes), tuple(encoder.span)
        self.image_size = encoder.image_size

    def decode(self, contents):
        """Decodes the bytes of an image file.

        Raises:
            ImageError: the image cannot be decoded.
        """
        return self._encoder.decode(contents)

    def encode(self, decoded):
        """Returns an `Output` or an `ImageError` for each of some decoded images."""
        found = self._encoder(np.stack(decoded))
        return [Output(*each) for each in zip(found["codes"], found["hash"], strict=True)]

    def warm_up(self):
        """Encodes images once, so that what is compiled at the first batches is there."""
        image = np.zeros((self.image_size, self.image_size, self._encoder.channels), np.uint8)
        for count in (1, 2, BATCH):
            self.encode([image] * count)

    def close(self):
        """Frees what the encoder holds."""


class Remote:
    """A model behind TensorFlow Serving, which decodes most images itself.

    Args:
        address: str, as in `dah_tf.serving.Client`.
        description: dict, the content of the model's `dah.json`, or None if it is not known.
        timeout: float, the seconds for one request.

    Raises:
        UserError: the address is wrong, or grpcio is missing.
    """

    span = None

    def __init__(self, address, description=None, timeout=10.0):
        from dah_tf.serving import Client

        about = description or {}
        self.bits, self.fingerprint = about.get("bits"), about.get("fingerprint")
        self.classes, self.image_size = about.get("class_names", []), about.get("image_size")
        self._client = Client(address, timeout=timeout, retries=2)

    def decode(self, contents):
        """Returns bytes that the server can decode; see `Local.decode`."""
        from dah_tf.serving import inputs

        if images.kind_of(contents[: images.HEAD]) is None:
            raise images.ImageError("its content is not an image")
        return inputs.contents(contents, 0)

    def encode(self, decoded):
        """Returns an `Output` or an `ImageError` for each image.

        Raises:
            ServingError: the server did not answer.
        """
        answer = self._client.encode(decoded)
        return [
            Output(code, None) if valid else images.ImageError("the image cannot be decoded")
            for code, valid in zip(answer.codes, answer.valid, strict=True)
        ]

    def warm_up(self):
        """Does nothing: the server warms its model up itself, and may start later."""

    def close(self):
        """Closes the connection."""
        self._client.close()


def load(settings, say=print):
    """Loads the encoder that the settings name.

    Args:
        settings: `Settings`.
        say: function that gets a line of text for the user.

    Raises:
        UserError: there is no such model, or a package is missing.
    """
    if settings.encoder:
        description = None
        if settings.model:
            from dah_tf.encoding import find_model

            _, description = find_model(settings.model)
        return Remote(settings.encoder, description, settings.deadline)
    from dah_tf.encoding import Encoder, choice

    if settings.runtime:
        from dah_tf import runtimes

        return Local(Encoder(settings.model, runtimes.name_of(settings.runtime)))
    return Local(choice.fastest(settings.model, say=say))


def check(encoder, store):
    """Says why codes of an encoder do not fit an index: one line, or None if they do.

    Args:
        encoder: `Local` or `Remote`.
        store: `dah_tf.index.Store`.
    """
    if encoder.bits not in (None, store.bits):
        return f"the model makes codes of {encoder.bits} bits, but the index has {store.bits}"
    known = (encoder.fingerprint, store.fingerprint)
    if None not in known and known[0] != known[1]:
        return (
            f"the model is {known[0][:12]}, but the index has codes of model {known[1][:12]}; "
            "distances between them mean nothing"
        )
    return None


def threads():
    """Returns the number of threads that decode: one core is left to the encoder."""
    return max(1, cores.cores() - 1)


def memory_of(contents, max_pixels):
    """Returns the bytes that decoding an image takes, or None if its header is not readable.

    Raises:
        ImageError: the image has more than `max_pixels`.
    """
    size = images.size_in(contents)
    if size is None:
        return None
    if size[0] * size[1] > max_pixels:
        raise images.ImageError("the image has too many pixels")
    return size[0] * size[1] * BYTES_OF_A_PIXEL
