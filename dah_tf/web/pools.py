"""Limits of what requests use together: threads, and the memory of pixels."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from dah_tf.web import problems

MEMORY = 1 << 30
"""The bytes of pixels that are decoded at a time. A larger image is decoded alone."""


class Budget:
    """Limits the bytes that threads use at a time. A thread waits until there is enough left.

    Args:
        total: int, bytes. Whoever needs more gets all of them, alone.
    """

    def __init__(self, total=MEMORY):
        self._total = self._left = total
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, count, end):
        """Holds some bytes. None takes all of them.

        Raises:
            TimeoutError: they are not free at the time `end` of `time.monotonic`.
        """
        count = self._total if count is None else min(count, self._total)
        with self._changed:
            free = self._changed.wait_for(
                lambda: self._left >= count, max(0.0, end - time.monotonic())
            )
            if not free:
                raise TimeoutError
            self._left -= count
        try:
            yield
        finally:
            with self._changed:
                self._left += count
                self._changed.notify_all()


class Pool:
    """Threads for the work of requests, of which only some may wait.

    Args:
        threads: int.
        name: str, the name of the threads.
        queue: int, the most calls that wait or run at a time.
    """

    def __init__(self, threads, name, queue):
        self._threads, self._queue = ThreadPoolExecutor(threads, name), queue
        self._pending = 0  # changes only on the event loop

    async def run(self, end, function, *arguments):
        """Calls a function.

        Args:
            end: float, the time of `time.monotonic` until which the caller waits.
            function: function that runs in one of the threads.
            *arguments: its arguments.

        Returns:
            What the function returns.

        Raises:
            Problem: 503 if too many calls wait, and 504 if there is no result in time.
        """
        if self._pending >= self._queue:
            raise problems.busy(
                "queue_full", "too many requests are waiting; try again in a moment"
            )
        self._pending += 1
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, function, *arguments)
        except TimeoutError:
            raise problems.late() from None
        finally:
            self._pending -= 1

    def close(self):
        """Ends the threads, after what they are working on."""
        self._threads.shutdown(cancel_futures=True)
