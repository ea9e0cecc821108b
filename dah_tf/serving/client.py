"""The client of an exported model: images in, packed codes out. No TensorFlow in Python.

The model itself reads JPEG, PNG, GIF, BMP and still WebP. The client decodes what else Pillow reads
and sends pixels: TIFF, AVIF, animated WebP, JPEG 2000, PNM, the rarer BMP, and HEIC where
`pillow-heif` is installed. Another program that calls the server must do so too.
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
"""Images of a request; TensorFlow Serving refuses more than its max_batch_size."""

BATCH_BYTES = 2**26
"""Bytes of images after which a request is full; a larger image goes alone."""

ALONE = (str, bytes, bytearray, memoryview, os.PathLike)  # types of one image

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a retry, at most


@dataclasses.dataclass(frozen=True)
class Answer:
    """What `Client.encode` returns for n images.

    Attributes:
        codes: uint8 array of shape `(n, ceil(bits / 8))` in the bit order of `dah_tf.codes`.
        valid: bool array of shape `(n,)`, false where the image could not be decoded; its code
            and probabilities are 0 and mean nothing.
        probabilities: float32 array of shape `(n, classes)`, or None if not asked for.
    """

    codes: np.ndarray
    valid: np.ndarray
    probabilities: np.ndarray | None = None


class Client:
    """Turns images into codes by an exported model, wherever it runs. Threads may share one.

    Every transport sends the same bytes to the same signature and so gives the same codes.

    Args:
        address: str, `grpc://HOST:8500/NAME` or `http://HOST:8501/NAME` (`grpcs://` and
            `https://` for TLS) for a model of TensorFlow Serving, or `saved-model:PATH`, a
            SavedModel or a folder of its versions, to be run in this process.
        version: int, the model's version, or None for the one that the server prefers. Codes of
            different versions must not be compared: where servers are updated, name it.
        batch_size: int, most images of a request.
        timeout: float, seconds for one request and its answer.
        retries: int, how often a request is sent again, after growing random pauses, where the
            server is unavailable (gRPC UNAVAILABLE, HTTP 503, no connection or a broken one).
            No other error is tried again.
        root_certificates: path of the PEM certificates to trust, or None for the installed ones.
        client_certificate, client_key: paths of the client's own PEM certificate and key.

    Raises:
        UserError: a wrong argument; no SavedModel at PATH; `grpcio` is missing for gRPC.

    Example:
        with Client("grpc://localhost:8500/dah") as client:
            codes = client.encode(["a.jpg", "b.png"]).codes
    """

    def __init__(
        self,
        address,
        *,
        version=None,
        batch_size=BATCH_SIZE,
        timeout=30.0,
        retries=8,
        root_certificates=None,
        client_certificate=None,
        client_key=None,
    ):
        if batch_size < 1 or not timeout > 0 or retries < 0:
            raise UserError(
                "batch_size is at least 1, timeout above 0, retries at least 0. "
                f"Received: {batch_size}, {timeout}, {retries}"
            )
        if version is not None and (type(version) is not int or version < 0):
            raise UserError(f"a version is a whole number. Received: {version!r}")
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

    def encode(self, images, *, probabilities=False, invalid="mark", deadline=None):
        """Packed codes of images.

        Args:
            images: iterable, of any mix of paths, bytes of image files, and uint8 arrays of shape
                `(h, w)`, `(h, w, 1)` or `(h, w, 3)`; or a uint8 array `(n, h, w, channels)`. It
                is read batch by batch.
            probabilities: bool; asks for the classes' probabilities too.
            invalid: what to do about an image that cannot be decoded: "mark" it in `valid`, or
                "raise".
            deadline: float, seconds for the whole call, or None.

        Returns:
            `Answer`, in the order of the images.

        Raises:
            UserError: the client is closed; something that is no image; a file that cannot be read; with
                `invalid="raise"`, an image that cannot be decoded.
            ServingError: the model did not answer; `code` is "DEADLINE_EXCEEDED" after `timeout`
                or `deadline`, "UNAVAILABLE" after the last retry, "ABORTED" where another version
                of the model took over amid the call (answers over HTTP do not name theirs: seen
                there only by another length of codes; a `version` keeps to one).
        """
        if invalid not in ("mark", "raise"):
            raise UserError(f"invalid is 'mark' or 'raise'. Received: {invalid!r}")
        if not isinstance(images, Iterable) or isinstance(images, ALONE) or _is_flat(images):
            raise UserError(
                "one image alone goes in a list: encode([image]); an array of many has the shape "
                "(n, h, w, channels)"
            )
        if self._closed:
            raise UserError(f"the client of {self._name} is closed; make another")
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
        if not answers:  # an answer to no image has the right shape all the same
            answers = [{k: v[:0] for k, v in self._answered([b""], end)[0].items()}]
        return Answer(
            *self._joined(answers, "codes", "valid"),
            *(self._joined(answers, "probabilities") if probabilities else ()),
        )

    def close(self):
        """Ends the connection, or frees the model. A second call does nothing."""
        self._closed = True
        self._transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _batches(self, images):
        """Pairs of lists, the images' names for errors and their bytes."""
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
        """Checked outputs and version for a batch, after retries."""
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
                # Full jitter: clients that failed together do not come back together.
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
                    "INTERNAL", f"{what} as {name} of {n} images: no model of dah_tf?"
                )

    def _joined(self, answers, *names):
        for name in names:
            if len({answer[name].shape[1:] for answer in answers}) > 1:
                raise self._error("ABORTED", f"the server changed the model: {name} of two lengths")
        return [np.concatenate([answer[name] for answer in answers]) for name in names]

    def _error(self, code, message, attempts=1):
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        return ServingError(code, f"{self._name}: {code}{tried}: {message}")


def _is_flat(images):
    return isinstance(images, np.ndarray) and images.ndim in (2, 3)
