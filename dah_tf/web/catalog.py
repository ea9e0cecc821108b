"""The index of the service: shared by all requests, following other writers, changed in turn."""

import asyncio
import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from dah_tf.errors import UserError
from dah_tf.index import IndexBusyError, open_index
from dah_tf.machine import cores
from dah_tf.web import problems
from dah_tf.web.pools import Pool

POLL = 0.5
"""The seconds between two looks for changes of other processes."""

READERS, WRITERS = 1024, 64
"""The most reads that wait or run, and the most changes that wait for their turn."""

PAUSE = 0.05  # seconds between two tries while another process writes
LABELS_WAIT = 2.0  # seconds that a request waits for the first list of labels


class Catalog:
    """An index that many requests read at the same time, while it changes.

    `current` never changes once it is there. A change puts another object in its place, so that
    each request sees one state of the index from its beginning to its end.

    Args:
        path, backend: as in `open_index`.
        say: function that gets a line of text for the log.

    Attributes:
        current: `Store`, the newest state.
        fault: str, why the index can no longer be read, or None.

    Raises:
        UserError: the index cannot be opened.
    """

    def __init__(self, path, backend=None, say=print):
        self.current, self.fault, self._say = open_index(path, backend), None, say
        self._readers = Pool(max(2, cores.cores()), "search", READERS)
        self._writer = ThreadPoolExecutor(1, "write")
        self._swapping, self._ended = threading.Lock(), threading.Event()
        self._writing = 0  # changes only on the event loop
        self._labels, self._listing, self._next_listing = (None, None), None, 0.0
        self._follower = threading.Thread(target=self._follow, name="follow", daemon=True)
        self._follower.start()

    async def read(self, end, function, *arguments):
        """Calls `function(store, *arguments)` in a thread, and returns its result.

        Args:
            end: float, the time of `time.monotonic` until which the caller waits.

        Raises:
            Problem: 503 if too many calls wait, and 504 if there is no result in time.
        """
        return await self._readers.run(end, function, self.current, *arguments)

    async def change(self, function, end):
        """Changes the index when it is this change's turn. It is durable at the return.

        Args:
            function: function that changes the `Store` that it gets by one call, and returns the
                result of this call. It is called again while another process writes.
            end: float, the time of `time.monotonic` until which the change may wait for its turn.

        Returns:
            The result, and the `Store` after the change.

        Raises:
            Problem: 503 if too many changes wait or another process does not stop to write, and
                504 if the turn does not come in time.
            UserError: the change is refused.
        """
        if self._writing >= WRITERS:
            raise problems.busy("queue_full", "too many changes are waiting; try again in a moment")
        self._writing += 1
        job = self._writer.submit(self._change, function, end)
        try:
            done = asyncio.wrap_future(job)
            # A change that has begun is not given up, because it may already be durable.
            await asyncio.wait([done], timeout=max(0.0, end - time.monotonic()))
            if not done.done() and job.cancel():
                raise problems.late()
            return await asyncio.shield(done)
        finally:
            self._writing -= 1

    async def labels(self):
        """Returns the number of items with each label, a dict; or None if it is not known yet."""
        store = self.current
        if self._labels[0] is not store and time.monotonic() >= self._next_listing:
            if self._listing is None or self._listing.done():
                self._listing = asyncio.ensure_future(self._list(store))
            await asyncio.wait([self._listing], timeout=LABELS_WAIT)
        return self._labels[1]

    def refresh(self):
        """Takes over what other processes have changed."""
        with self._swapping:
            newest = copy.copy(self.current)
            newest.refresh()
            if newest.stats() != self.current.stats():
                self.current = newest

    def close(self):
        """Finishes the changes that wait, and closes the index."""
        self._ended.set()
        self._follower.join()
        self._writer.shutdown()
        self._readers.close()
        self.current.close()

    def _change(self, function, end):
        while True:
            store = copy.copy(self.current)
            try:
                result = function(store)
                break
            except IndexBusyError as error:
                if time.monotonic() + PAUSE >= end:
                    raise problems.busy("index_busy", str(error)) from None
                time.sleep(PAUSE)
        with self._swapping:
            if store.stats()["changes"] >= self.current.stats()["changes"]:
                self.current = store
        return result, store

    def _follow(self):
        while not self._ended.wait(POLL):
            try:
                self.refresh()
                fault = None
            except (UserError, OSError) as error:
                fault = " ".join(str(error).split())
            if fault and fault != self.fault:
                self._say(f"the index cannot be read again: {fault}")
            self.fault = fault

    async def _list(self, store):
        start = time.monotonic()
        loop = asyncio.get_running_loop()
        self._labels = store, await loop.run_in_executor(None, store.labels)
        # Where listing takes long, as in Milvus, it is not done again after each change.
        took = time.monotonic() - start
        self._next_listing = time.monotonic() + 10 * took if took > LABELS_WAIT / 2 else 0.0
