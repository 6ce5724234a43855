"""Images are read ahead of the encoder, by threads."""

import threading
import time

import pytest

from pyg_bgformer.deploy.inputs import AHEAD, prefetched
from pyg_bgformer.errors import InputError


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_and_the_last_is_what_is_left(workers):
    assert list(prefetched(lambda i: i * i, 7, 3, workers)) == [[0, 1, 4], [9, 16, 25], [36]]
    assert list(prefetched(lambda i: i, 0, 3, workers)) == []


def test_the_next_batches_are_read_while_one_is_used_and_no_more():
    read = set()
    batches = prefetched(read.add, 100, 2, workers=2)
    next(batches)
    deadline = time.monotonic() + 10
    while len(read) < 2 * (1 + AHEAD) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert read == set(range(2 * (1 + AHEAD)))
    batches.close()


def test_images_are_read_by_several_threads_at_a_time():
    together = threading.Barrier(2, timeout=10)
    assert list(prefetched(lambda i: together.wait() in (0, 1), 4, 2, workers=2)) == [[True, True]] * 2


def test_an_error_stops_the_reading():
    def load(position):
        if position == 3:
            raise InputError("broken")
        return position

    batches = prefetched(load, 1000, 2, workers=2)
    assert next(batches) == [0, 1]
    with pytest.raises(InputError, match="broken"):
        next(batches)
