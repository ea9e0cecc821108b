"""From the bytes of images to codes: decoding in threads, then the batching encoder."""

import asyncio
import time
import typing
from concurrent.futures import ThreadPoolExecutor

from dah_tf import images
from dah_tf.errors import UserError
from dah_tf.web import encoders, problems
from dah_tf.web.batching import Batcher
from dah_tf.web.encoders import Output


class Encoded(typing.NamedTuple):
    """The codes of the images of one request, and the longest time of each stage in seconds."""

    outputs: list[Output]
    decode: float
    queue: float
    encode: float


class Pipeline:
    """Turns images into codes for all requests.

    Args:
        encoder: `encoders.Local` or `encoders.Remote`.
        budget: `Budget` of the decoders.
        max_pixels, queue: as in `Settings`.
        metrics: `Metrics`.
    """

    def __init__(self, encoder, budget, max_pixels, queue, metrics):
        self._encoder, self._budget = encoder, budget
        self._max_pixels, self._queue, self._metrics = max_pixels, queue, metrics
        self._decoders = ThreadPoolExecutor(encoders.threads(), "decode")
        self._pending = self._decoding = 0  # both change only on the event loop
        self._batcher = Batcher(
            encoder.encode, lambda: self._decoding, seen=metrics.batch_was_encoded
        )

    @property
    def length(self):
        """The number of images that wait or are worked on."""
        return self._pending

    def check(self, count=1):
        """Refuses a request if the queue has no room for its images.

        Raises:
            Problem: 503.
        """
        if self._pending + count > self._queue:
            raise problems.busy("queue_full", "too many images are waiting; try again in a moment")

    async def encode(self, contents, end):
        """Encodes the images of a request.

        Args:
            contents: list of bytes.
            end: float, the time of `time.monotonic` at which the request is given up.

        Returns:
            `Encoded`.

        Raises:
            Problem: 422 if an image cannot be decoded, 503 if the queue is full or the model does
                not answer, and 504 after the deadline.
        """
        self.check(len(contents))
        self._pending += len(contents)
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                parts = await asyncio.gather(
                    *(self._one(each, end) for each in contents), return_exceptions=True
                )
        except TimeoutError:
            raise problems.late() from None
        finally:
            self._pending -= len(contents)
        self._check(parts)
        outputs, *times = zip(*parts, strict=True)
        decode, queue, encode = map(max, times)
        for stage, seconds in (("decode", decode), ("queue", queue), ("encode", encode)):
            self._metrics.stage(stage, seconds)
        return Encoded(list(outputs), decode, queue, encode)

    async def _one(self, contents, end):
        loop = asyncio.get_running_loop()
        self._decoding += 1
        try:
            decoded, decoding = await loop.run_in_executor(
                self._decoders, self._decode, contents, end
            )
        finally:
            self._decoding -= 1
        done = await asyncio.wrap_future(self._batcher.submit(decoded))
        if isinstance(done.output, Exception):
            raise done.output
        return done.output, decoding, done.waited, done.took

    def _decode(self, contents, end):
        start = time.monotonic()
        needed = encoders.memory_of(contents, self._max_pixels)
        with self._budget.take(needed, end):
            return self._encoder.decode(contents), time.monotonic() - start

    def _check(self, parts):
        """Raises the problem of a request of which some images failed."""
        wrong = [
            {"image": number, "detail": str(part)}
            for number, part in enumerate(parts)
            if isinstance(part, images.ImageError)
        ]
        if wrong:
            raise problems.Problem(
                422,
                "unreadable_image",
                f"image {wrong[0]['image']} cannot be read: {wrong[0]['detail']}",
                errors=wrong,
            )
        for part in parts:
            if isinstance(part, TimeoutError):
                raise problems.late() from None
            if isinstance(part, UserError):  # a `ServingError`, or an image that is refused
                raise problems.busy("encoder_failed", f"the model did not answer: {part}") from part
            if isinstance(part, BaseException):
                raise part

    def close(self):
        """Ends the threads, after what they are working on."""
        self._decoders.shutdown(cancel_futures=True)
        self._batcher.close()
        self._encoder.close()
