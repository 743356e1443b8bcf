"""Prefetching in a thread: order, exceptions and termination."""

import threading

import pytest

from dgmzoo.data import prefetch


def test_prefetch_keeps_order_and_raises_the_errors_of_its_source():
    assert list(prefetch(range(50), 3)) == list(range(50))

    def failing():
        yield 1
        raise OSError("the disk is gone")

    items = prefetch(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk is gone"):
        next(items)
    with pytest.raises(ValueError, match="at least 1"):
        next(prefetch([], 0))


def test_closing_ends_the_thread():
    produced = []
    items = prefetch((produced.append(i) or i for i in range(10**9)), 2)
    assert next(items) == 0
    items.close()
    assert len(produced) <= 4 and not any(thread.name == "dgmzoo-prefetch" for thread in threading.enumerate())
