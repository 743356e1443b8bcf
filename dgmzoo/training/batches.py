"""Which rows each step sees, and how they reach the device: all of it from the seed and the position."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dgmzoo.config.training import Training
from dgmzoo.data import order
from dgmzoo.data.stream import gather, prefetch
from dgmzoo.training.devices import own_share, place

_RESIDENT = 4 << 30  # bytes of training rows up to which they are put on the device as a whole


class Portion(NamedTuple):
    """What one dispatch is given."""

    size: int  # steps
    rows: Mapping[str, Any]  # all rows on the device [N, ...], or those of its steps from the host [n, (S,) B, ...]
    indices: np.ndarray  # [n, B], of several seeds [n, S, B]; of several processes this one's share


class Batches:
    """The training rows, dispatch by dispatch."""

    def __init__(
        self,
        training: Training,
        stream: bool | None,
        rows: Mapping[str, Any],
        seeds: Sequence[int],
        devices: Sequence[jax.Device],
    ):
        self.rows, self.seeds, self.devices, self.batch = rows, seeds, devices, training.batch_size
        self.orders: dict[tuple[int, int], np.ndarray] = {}
        self.num_train = len(rows["x"])
        self.per_epoch = training.steps_per_epoch(self.num_train)
        self.total = training.total_steps(self.num_train)
        size = sum(leaf.nbytes for leaf in rows.values())
        self.streamed = size > _RESIDENT if stream is None else stream

    def portions(self, start: int, n: int) -> Iterator[Portion]:
        """From step `start` to the end, `n` steps at a time."""
        if self.streamed:
            return prefetch(self._gathered(start, n))
        return self._resident(start, n)

    def _resident(self, start: int, n: int) -> Iterator[Portion]:
        rows = place({name: np.asarray(leaf) for name, leaf in self.rows.items()}, self.devices)
        for step, size in self._grid(start, n):
            yield Portion(size, rows, self.indices(step, size))

    def _gathered(self, start: int, n: int) -> Iterator[Portion]:
        for step, size in self._grid(start, n):
            indices = self.indices(step, size)
            yield Portion(size, gather(self.rows, indices), indices)

    def _grid(self, start: int, n: int) -> Iterator[tuple[int, int]]:
        for size in dispatches(start, self.total, self.per_epoch, n):
            yield start, size
            start += size

    def indices(self, step: int, size: int) -> np.ndarray:
        """Row numbers `[size, B]` of the steps from `step` on, this process's share; of several seeds `[size, S, B]`."""
        found = np.empty((size, len(self.seeds), self.batch), np.int32)
        for i in range(size):
            epoch, at = divmod(step + i, self.per_epoch)
            for j, seed in enumerate(self.seeds):
                found[i, j] = self._order(seed, epoch)[at * self.batch : (at + 1) * self.batch]
        return own_share(found if len(self.seeds) > 1 else found[:, 0])

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        if (seed, epoch) not in self.orders:
            self.orders = {key: kept for key, kept in self.orders.items() if key[1] >= epoch - 1}
            self.orders[seed, epoch] = order(seed, epoch, self.num_train)
        return self.orders[seed, epoch]


def dispatches(start: int, total: int, per_epoch: int, n: int) -> Iterator[int]:
    """Sizes of the dispatches from step `start` to `total`: n or 1, never across the end of an epoch.

    The grid depends on the position alone, so that a run that goes on repeats the programs of one that never stopped.
    """
    step = start
    while step < total:
        left = min(per_epoch - step % per_epoch, total - step)
        size = n if left >= n else 1
        yield size
        step += size


def dispatch_size(one_at_a_time: bool, per_epoch: int) -> int:
    """Steps a dispatch: about 50, with as few as possible left over at the end of an epoch."""
    if one_at_a_time:
        return 1
    if per_epoch <= 64:
        return per_epoch
    return min(range(32, 65), key=lambda n: (per_epoch % n, -n))
