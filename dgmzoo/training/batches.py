"""`Batches`: the shuffled batches of training rows; `default_dispatch_size`: the number of steps in a compiled call.

The order of the rows follows from the seed and the step alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dgmzoo.config.training import Training
from dgmzoo.data import order
from dgmzoo.data.stream import gather, prefetch
from dgmzoo.training.devices import place, process_share

_RESIDENT_BYTES = 4 << 30  # larger training splits are streamed from the host


class DispatchInput(NamedTuple):
    """The rows of one dispatch, a call of the compiled program that runs several steps."""

    size: int  # steps
    rows: Mapping[str, Any]  # all rows on the device [N, ...], or the gathered batches [n, (S,) B, ...] if streamed
    indices: np.ndarray  # [n, B], for several seeds [n, S, B]; B is the share of this process


class Batches:
    """The batches of training rows, for each dispatch.

    Args:
      stream: gather the batches on the host, one dispatch ahead; False: keep all rows on the device; None: stream rows
        of more than 4 GiB.
      rows: training split, `{name: [N, ...]}`.
      seeds: seeds of the order, one for each run in the program.
    """

    def __init__(
        self,
        training: Training,
        stream: bool | None,
        rows: Mapping[str, Any],
        seeds: Sequence[int],
        devices: Sequence[jax.Device],
    ):
        self.rows, self.seeds, self.devices, self.batch_size = rows, seeds, devices, training.batch_size
        self._orders: dict[tuple[int, int], np.ndarray] = {}  # (seed, epoch) -> permutation
        self.num_train = len(rows["x"])
        self.steps_per_epoch = training.steps_per_epoch(self.num_train)
        self.total_steps = training.total_steps(self.num_train)
        size = sum(leaf.nbytes for leaf in rows.values())
        self.is_streamed = size > _RESIDENT_BYTES if stream is None else stream

    def dispatches(self, start: int, n: int) -> Iterator[DispatchInput]:
        """Inputs of the dispatches from step `start` to the end, `n` or 1 steps each."""
        if self.is_streamed:
            return prefetch(self._streamed(start, n))
        return self._resident(start, n)

    def _resident(self, start: int, n: int) -> Iterator[DispatchInput]:
        rows = place({name: np.asarray(leaf) for name, leaf in self.rows.items()}, self.devices)
        for step, size in self._grid(start, n):
            yield DispatchInput(size, rows, self.indices(step, size))

    def _streamed(self, start: int, n: int) -> Iterator[DispatchInput]:
        for step, size in self._grid(start, n):
            indices = self.indices(step, size)
            yield DispatchInput(size, gather(self.rows, indices), indices)

    def _grid(self, start: int, n: int) -> Iterator[tuple[int, int]]:
        for size in dispatch_sizes(start, self.total_steps, self.steps_per_epoch, n):
            yield start, size
            start += size

    def indices(self, step: int, size: int) -> np.ndarray:
        """Row numbers of `size` steps from `step` on: `[size, B]`, for several seeds `[size, S, B]`.

        B is the share of this process in the batch.
        """
        indices = np.empty((size, len(self.seeds), self.batch_size), np.int32)
        for i in range(size):
            epoch, batch = divmod(step + i, self.steps_per_epoch)
            for j, seed in enumerate(self.seeds):
                indices[i, j] = self._order(seed, epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]
        return process_share(indices if len(self.seeds) > 1 else indices[:, 0])

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        if (seed, epoch) not in self._orders:
            self._orders = {key: value for key, value in self._orders.items() if key[1] >= epoch - 1}
            self._orders[seed, epoch] = order(seed, epoch, self.num_train)
        return self._orders[seed, epoch]


def dispatch_sizes(start: int, total: int, steps_per_epoch: int, n: int) -> Iterator[int]:
    """Sizes of the dispatches from step `start` to `total`: n or 1 steps, never across the end of an epoch.

    The boundaries depend on the step alone, so that a resumed run repeats the programs of an uninterrupted one.

    >>> list(dispatch_sizes(start=0, total=12, steps_per_epoch=8, n=3))
    [3, 3, 1, 1, 3, 1]
    """
    step = start
    while step < total:
        remaining = min(steps_per_epoch - step % steps_per_epoch, total - step)
        size = n if remaining >= n else 1
        yield size
        step += size


def default_dispatch_size(one_at_a_time: bool, steps_per_epoch: int) -> int:
    """Steps of a dispatch: about 50, chosen so that few steps are left over at the end of an epoch.

    >>> default_dispatch_size(one_at_a_time=False, steps_per_epoch=600)
    60
    """
    if one_at_a_time:
        return 1
    if steps_per_epoch <= 64:
        return steps_per_epoch
    return min(range(32, 65), key=lambda n: (steps_per_epoch % n, -n))
