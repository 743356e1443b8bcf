"""`Batches`: the shuffled batches of training rows; `default_dispatch_size`: the number of steps in a compiled call.

The order of the rows follows from the seed and the step alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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

    size: int  # steps, at most n
    rows: Mapping[str, Any]  # all rows on the device [N, ...], or the gathered batches [n, (S,) B, ...] if streamed
    indices: np.ndarray  # [n, B], for several seeds [n, S, B], zeros beyond `size`; B is the share of this process


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

    def dispatches(
        self, start: int, n: int, size: Callable[[], int] | None = None, stops: Sequence[int] = ()
    ) -> Iterator[DispatchInput]:
        """Inputs of the dispatches from step `start` to the end, of at most `n` steps each.

        Args:
          size: function that returns the number of steps of the next dispatch, at most n; None: n.
          stops: numbers of steps, at each multiple of which a dispatch ends.
        """
        inputs = self._inputs(start, n, size or (lambda: n), stops)
        return prefetch(inputs) if self.is_streamed else inputs

    def _inputs(self, start: int, n: int, size: Callable[[], int], stops: Sequence[int]) -> Iterator[DispatchInput]:
        rows = None
        if not self.is_streamed:
            rows = place({name: np.asarray(leaf) for name, leaf in self.rows.items()}, self.devices)
        for step, steps in dispatch_sizes(start, self.total_steps, [self.steps_per_epoch, *stops], size):
            indices = self.indices(step, steps)
            used = gather(self.rows, indices) if self.is_streamed else rows
            pad = [(0, n - steps)]
            if self.is_streamed:
                used = {name: np.pad(leaf, pad + [(0, 0)] * (leaf.ndim - 1)) for name, leaf in used.items()}
            yield DispatchInput(steps, used, np.pad(indices, pad + [(0, 0)] * (indices.ndim - 1)))

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


def dispatch_sizes(start: int, total: int, stops: Sequence[int], size: Callable[[], int]) -> Iterator[tuple[int, int]]:
    """Step and size of the dispatches from step `start` to `total`, which end at each multiple of a number of `stops`.

    What is written at the ends of epochs, say, then follows from the step alone, whatever the sizes between them are.

    >>> list(dispatch_sizes(start=0, total=12, stops=[8], size=lambda: 3))
    [(0, 3), (3, 3), (6, 2), (8, 3), (11, 1)]
    """
    step = start
    while step < total:
        remaining = min(total - step, *(stop - step % stop for stop in stops))
        steps = min(remaining, max(1, size()))
        yield step, steps
        step += steps


def default_dispatch_size(one_at_a_time: bool, steps_per_epoch: int) -> int:
    """Most steps of a dispatch: about 50, chosen so that few steps are left over at the end of an epoch.

    >>> default_dispatch_size(one_at_a_time=False, steps_per_epoch=600)
    60
    """
    if one_at_a_time:
        return 1
    if steps_per_epoch <= 64:
        return steps_per_epoch
    return min(range(32, 65), key=lambda n: (steps_per_epoch % n, -n))
