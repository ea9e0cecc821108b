"""The client of an exported model, which turns images into packed codes.

It does not import TensorFlow in Python. The model itself decodes JPEG, PNG, GIF, BMP and still
WebP. The client decodes TIFF, AVIF, animated WebP, JPEG 2000, PNM and the rarer kinds of BMP (and
HEIC, if `pillow-heif` is installed), and sends pixels. A program that calls the server without this
client must do the same.
"""

import dataclasses
import itertools
import os
import random
import time
from collections.abc import Iterable

import numpy as np

from dah_tf.errors import UserError
from dah_tf.serving import addresses, inputs
from dah_tf.serving.failure import ServingError
from dah_tf.serving.in_process import InProcess
from dah_tf.serving.over_grpc import Grpc
from dah_tf.serving.over_rest import Rest

BATCH_SIZE = 64
"""The number of images in a request. TensorFlow Serving refuses more than its max_batch_size."""

BATCH_BYTES = 2**26
"""The most bytes of images in a request. A larger image is sent alone."""

ALONE = (str, bytes, bytearray, memoryview, os.PathLike)  # the types of a single image

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # the longest pause in seconds before the first and any retry


@dataclasses.dataclass(frozen=True)
class Answer:
    """The result of `Client.encode` for n images.

    Attributes:
        codes: uint8 array of shape `(n, ceil(bits / 8))`, packed as in `dah_tf.codes`.
        valid: bool array of shape `(n,)`. It is false if an image could not be decoded; the code
            and the probabilities of this image are 0 and mean nothing.
        probabilities: float32 array of shape `(n, classes)`, or None if they were not asked for.
    """

    codes: np.ndarray
    valid: np.ndarray
    probabilities: np.ndarray | None = None


class Client:
    """Turns images into codes with an exported model, on a server or in this process.

    Several threads may share a client. All transports send the same bytes to the same signature,
    so that they give the same codes.

    Args:
        address: str. `grpc://HOST:8500/NAME` and `http://HOST:8501/NAME` are a model of TensorFlow
            Serving, with `grpcs://` and `https://` for TLS. `saved-model:PATH` runs a model in this
            process; PATH is a SavedModel or a folder that contains versions of one.
        version: int, the version of the model, or None for the one that the server chooses. Codes
            of different versions must not be compared, so that you should name the version if the
            server may get a new one.
        batch_size: int, the most images in a request.
        timeout: float, the seconds for one request and its answer.
        retries: int, how often a request is sent again if the server is unavailable, after growing
            random pauses. Unavailable means gRPC's UNAVAILABLE, HTTP 503, or a missing or broken
            connection. After other errors, no request is sent again.
        root_certificates: path of the trusted PEM certificates, or None for the installed ones.
        client_certificate, client_key: paths of the PEM certificate and key of the client.

    Raises:
        UserError: an argument is wrong, there is no SavedModel at PATH, or gRPC needs `grpcio`,
            which is not installed.

    Example:
        >>> with Client("saved-model:runs/digits/export") as client:
        ...     answer = client.encode(["photos/cat.png", "photos/owl.png"])
        >>> answer.codes.shape, answer.valid.tolist()
        ((2, 2), [True, True])

        `Client("grpc://localhost:8500/dah")` gives the same codes from a server.
    """

    def __init__(
        self,
        address: str,
        *,
        version: int | None = None,
        batch_size: int = BATCH_SIZE,
        timeout: float = 30.0,
        retries: int = 8,
        root_certificates: str | os.PathLike | None = None,
        client_certificate: str | os.PathLike | None = None,
        client_key: str | os.PathLike | None = None,
    ):
        if batch_size < 1 or not timeout > 0 or retries < 0:
            raise UserError(
                "batch_size must be at least 1, timeout above 0, and retries at least 0. "
                f"Received: {batch_size}, {timeout}, {retries}"
            )
        if version is not None and (type(version) is not int or version < 0):
            raise UserError(f"version must be a whole number. Received: {version!r}")
        self._name, self._batch_size, self._closed = str(address), batch_size, False
        self._timeout, self._retries = timeout, retries
        certificates = addresses.Certificates(root_certificates, client_certificate, client_key)
        scheme, _, path = self._name.partition(":")
        if scheme == addresses.LOCAL:
            certificates.check(secure=False)
            self._transport = InProcess(path, version)
        else:
            parsed = addresses.parse(self._name)
            certificates.check(parsed.secure)
            transport = Grpc if parsed.scheme.startswith("grpc") else Rest
            self._transport = transport(parsed, version, certificates)

    def encode(
        self,
        images: Iterable,
        *,
        probabilities: bool = False,
        invalid: str = "mark",
        deadline: float | None = None,
    ) -> Answer:
        """Encodes images.

        Args:
            images: iterable of paths, bytes of image files, and uint8 arrays of shape `(h, w)`,
                `(h, w, 1)` or `(h, w, 3)`, in any mixture; or a uint8 array
                `(n, h, w, channels)`. It is read batch by batch.
            probabilities: bool, whether to return the probabilities of the classes too.
            invalid: what happens to an image that cannot be decoded: "mark" makes its `valid`
                false, and "raise" raises an error.
            deadline: float, the seconds for the whole call, or None.

        Returns:
            `Answer`, in the order of the images.

        Raises:
            UserError: the client is closed, an element is not an image, a file cannot be read, or
                with `invalid="raise"` an image cannot be decoded.
            ServingError: the model did not answer. `code` is "DEADLINE_EXCEEDED" after `timeout`
                or `deadline`, and "UNAVAILABLE" after the last retry. It is "ABORTED" if the server
                changed the version of the model during the call. Answers over HTTP do not name
                their version, so that only another length of the codes shows the change there. A
                fixed `version` avoids this.
        """
        if invalid not in ("mark", "raise"):
            raise UserError(f"invalid must be 'mark' or 'raise'. Received: {invalid!r}")
        if not isinstance(images, Iterable) or isinstance(images, ALONE) or _is_flat(images):
            raise UserError(
                "put a single image in a list: encode([image]); an array of several images must "
                "have the shape (n, h, w, channels)"
            )
        if self._closed:
            raise UserError(f"the client of {self._name} is closed; make another one")
        end = None if deadline is None else time.monotonic() + deadline
        answers, versions = [], set()
        for names, batch in self._batches(images):
            outputs, version = self._answered(batch, end)
            answers.append(outputs)
            versions.add(version)
            if len(versions) > 1:
                raise self._error("ABORTED", "the server changed the model's version")
            if invalid == "raise" and not outputs["valid"].all():
                row = outputs["valid"].argmin()
                raise UserError(f"{names[row]} cannot be decoded{inputs.why(batch[row])}")
        if not answers:  # without images, the answer still needs the right shapes
            answers = [{k: v[:0] for k, v in self._answered([b""], end)[0].items()}]
        return Answer(
            *self._joined(answers, "codes", "valid"),
            *(self._joined(answers, "probabilities") if probabilities else ()),
        )

    def close(self) -> None:
        """Closes the connection, or frees the model. It may be called again."""
        self._closed = True
        self._transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _batches(self, images):
        """Yields pairs of lists: the names of images for errors, and their bytes."""
        names, batch, size = [], [], 0
        for index, image in enumerate(images):
            data = inputs.contents(image, index)
            if batch and (len(batch) == self._batch_size or size + len(data) > BATCH_BYTES):
                yield names, batch
                names, batch, size = [], [], 0
            names.append(inputs.name(image, index))
            batch.append(data)
            size += len(data)
        if batch:
            yield names, batch

    def _answered(self, batch, end):
        """Returns the checked outputs and the version for a batch, after retries."""
        for attempt in itertools.count():
            left = self._timeout if end is None else min(self._timeout, end - time.monotonic())
            if left <= 0:
                raise self._error("DEADLINE_EXCEEDED", "the call's deadline has passed")
            try:
                outputs, version = self._transport.predict(batch, left)
                break
            except ServingError as error:
                if error.code != "UNAVAILABLE" or attempt == self._retries:
                    raise self._error(error.code, error, attempt + 1) from error
                # The pause is random, so that clients that failed together do not return together.
                pause = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt))
                if end is not None and time.monotonic() + pause >= end:
                    raise self._error(error.code, error, attempt + 1) from error
            time.sleep(pause)
        self._check(outputs, len(batch))
        return outputs, version

    def _check(self, outputs, n):
        wanted = {"codes": (np.uint8, 2), "valid": (np.bool_, 1), "probabilities": (np.float32, 2)}
        for name, (dtype, rank) in wanted.items():
            array = outputs.get(name)
            fits = array is not None and array.dtype == dtype and array.ndim == rank
            if not fits or len(array) != n:
                what = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
                raise self._error(
                    "INTERNAL",
                    f"the answer has {what} as {name} of {n} images; it may not be a dah_tf model",
                )

    def _joined(self, answers, *names):
        for name in names:
            if len({answer[name].shape[1:] for answer in answers}) > 1:
                message = f"the server changed the model; {name} has two lengths"
                raise self._error("ABORTED", message)
        return [np.concatenate([answer[name] for answer in answers]) for name in names]

    def _error(self, code, message, attempts=1):
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        return ServingError(code, f"{self._name}: {code}{tried}: {message}")


def _is_flat(images):
    return isinstance(images, np.ndarray) and images.ndim in (2, 3)
