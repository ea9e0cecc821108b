"""One thread owns the encoder, and gives it in one batch what arrived while it was busy."""

import collections
import threading
import time
import typing
from concurrent.futures import Future

BATCH = 32
WINDOW = 0.004
"""The seconds that the first image of a batch waits for others that are still being decoded."""


class Done(typing.NamedTuple):
    """The result of an item.

    Attributes:
        output: what the encoder returned for the item.
        waited: the seconds between the submission and the start of the batch.
        took: the seconds that the encoder needed for the batch.
    """

    output: typing.Any
    waited: float
    took: float


class Batcher:
    """Runs a function on batches in one thread.

    Args:
        encode: function from a list of items to a list of as many outputs.
        coming: function that returns how many items will probably be submitted in a moment. If it
            is 0, a batch starts at once, so that a single client never waits.
        batch: the most items of a batch.
        window: the most seconds that a batch waits for items that are coming.
        seen: function that gets the size of each batch.
    """

    def __init__(self, encode, coming=lambda: 0, batch=BATCH, window=WINDOW, seen=None):
        self._encode, self._coming, self._batch, self._window = encode, coming, batch, window
        self._seen = seen or (lambda size: None)
        self._waiting = collections.deque()  # (Future, item, time of submission)
        self._changed, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def __len__(self):
        """The number of items that wait."""
        return len(self._waiting)

    def submit(self, item) -> Future:
        """Adds an item to the queue. Cancelling the future takes the item out of it.

        Returns:
            Future of a `Done`, or of the error that the function raised for its batch.

        Raises:
            RuntimeError: the batcher is closed.
        """
        future = Future()
        entry = (future, item, time.monotonic())
        with self._changed:
            if self._closing:
                raise RuntimeError("the encoder has ended")
            self._waiting.append(entry)
            self._changed.notify()
        future.add_done_callback(lambda ended: ended.cancelled() and self._leave(entry))
        return future

    def close(self):
        """Finishes the items that wait, then ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _leave(self, entry):
        with self._changed:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _run(self):
        while entries := self._next():
            # A future that was cancelled a moment ago must not be set any more.
            entries = [each for each in entries if each[0].set_running_or_notify_cancel()]
            if not entries:
                continue
            start = time.monotonic()
            try:
                outputs = self._encode([item for _, item, _ in entries])
            except Exception as error:  # noqa: BLE001 - each waiting request reports it
                for future, _, _ in entries:
                    future.set_exception(error)
                continue
            took = time.monotonic() - start
            self._seen(len(entries))
            for (future, _, since), output in zip(entries, outputs, strict=True):
                future.set_result(Done(output, start - since, took))

    def _next(self):
        """Waits for a batch, and takes it out of the queue. It is empty at the end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            end = time.monotonic() + self._window
            while 0 < len(self._waiting) < self._batch and self._coming() and not self._closing:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if not self._waiting and not self._closing:
                return self._next()  # all that waited have left
            count = min(self._batch, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]
