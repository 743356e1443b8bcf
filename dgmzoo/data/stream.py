"""`gather`: read the rows of a split by index; `prefetch`: compute the items of an iterator ahead in a thread."""

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def gather(rows: Mapping[str, Any], indices: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of a split at `indices` [...]: field -> [..., *shape of a row].

    >>> gather({"x": np.array([[5], [6], [7]])}, np.array([2, 0]))["x"].tolist()
    [[7], [5]]
    """
    return {name: a[indices] for name, a in rows.items()}


def prefetch(source: Iterable[T], size: int = 2) -> Iterator[T]:
    """Iterate over `source` in order, with up to `size` items computed ahead in a thread.

    An exception in `source` is raised at the position of its item. Closing or dropping the iterator ends the thread.

    >>> list(prefetch(range(3)))
    [0, 1, 2]
    """
    if size < 1:
        raise ValueError(f"expected a prefetch of at least 1 item, got {size}")
    ready: queue.Queue = queue.Queue(size)
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def produce() -> None:
        try:
            for item in source:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=produce, daemon=True, name="dgmzoo-prefetch")
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        thread.join()
