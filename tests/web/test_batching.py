"""The batching encoder: what a batch holds, who leaves the queue, and how it ends."""

import threading

import pytest
from waiting import until

from dah_tf.web.batching import Batcher


class Gate:
    """An encoder that waits at a gate, and remembers its batches."""

    def __init__(self):
        self.open, self.batches, self.entered = threading.Event(), [], threading.Event()

    def __call__(self, items):
        self.batches.append(items)
        self.entered.set()
        self.open.wait()
        return [10 * each for each in items]


def held(gate):
    """A batcher whose thread is busy with item 0."""
    batcher = Batcher(gate, batch=4)
    first = batcher.submit(0)
    gate.entered.wait()
    return batcher, first


def test_a_batch_is_what_arrived_while_the_encoder_was_busy():
    gate = Gate()
    batcher, first = held(gate)
    futures = [batcher.submit(number) for number in range(1, 7)]
    assert len(batcher) == 6
    gate.open.set()
    assert [each.result().output for each in [first, *futures]] == [0, 10, 20, 30, 40, 50, 60]
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6]]
    batcher.close()


def test_a_cancelled_item_leaves_the_queue():
    gate = Gate()
    batcher, _ = held(gate)
    kept, left = batcher.submit(1), batcher.submit(2)
    assert left.cancel() and len(batcher) == 1
    gate.open.set()
    assert kept.result().output == 10
    batcher.close()
    assert gate.batches == [[0], [1]]


def test_a_running_item_cannot_be_cancelled():
    gate = Gate()
    batcher, first = held(gate)
    assert not first.cancel()
    gate.open.set()
    assert first.result().output == 0
    batcher.close()


def test_an_error_reaches_every_item_of_its_batch_and_no_other():
    def encode(items):
        if "bad" in items:
            raise ValueError("no such model")
        return items

    batcher = Batcher(encode)
    with pytest.raises(ValueError, match="no such model"):
        batcher.submit("bad").result()
    assert batcher.submit("good").result().output == "good"
    batcher.close()


def test_closing_finishes_what_waits():
    gate = Gate()
    batcher, first = held(gate)
    last = batcher.submit(5)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    until(lambda: batcher._closing)
    with pytest.raises(RuntimeError, match="ended"):
        batcher.submit(6)
    gate.open.set()
    closing.join()
    assert (first.result().output, last.result().output) == (0, 50)


def test_a_batch_waits_only_for_what_is_coming():
    # With a window of an hour, only the count of what is coming can start a batch.
    coming, sizes = [1], []
    batcher = Batcher(lambda items: items, lambda: coming[0], window=3600.0, seen=sizes.append)
    first = batcher.submit("a")
    assert not first.done()
    coming[0] = 0
    second = batcher.submit("b")
    assert (first.result().output, second.result().output) == ("a", "b")
    assert sizes == [2]
    batcher.close()


def test_a_window_ends():
    batcher = Batcher(lambda items: items, lambda: 1, window=0.001)
    assert batcher.submit("a").result().output == "a"
    batcher.close()
