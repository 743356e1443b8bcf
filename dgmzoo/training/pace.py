"""`Pace`: the number of steps of the next dispatch, from the measured time of a step, so that a stop is noticed soon."""

import jax

from dgmzoo.training.stopwatch import Stopwatch

_SECONDS = 0.5  # of one dispatch, of which two may be under way when a stop is requested


class Pace:
    """Chooses the number of steps of a dispatch, at most `most`, so that it takes about half a second.

    The first dispatch compiles, and the second one is timed; both have one step. Several processes use `most`, because
    they must run the same steps, whatever their clocks say.

    >>> pace = Pace(most=50)
    >>> pace.next_size(), pace.waits
    (1, True)
    """

    def __init__(self, most: int):
        self.most, self._is_constant = most, jax.process_count() > 1
        self._seconds_per_step: float | None = None
        self._measurements = 0
        self._stopwatch = Stopwatch()

    @property
    def waits(self) -> bool:
        """True if the loop waits for each dispatch: before a step was timed, and where a step takes over a second."""
        is_slow = self._seconds_per_step is None or self._seconds_per_step > 1
        return is_slow and not self._is_constant

    def next_size(self) -> int:
        """Number of steps of the next dispatch."""
        if self._is_constant:
            return self.most
        if self._seconds_per_step is None:
            return 1
        return max(1, min(self.most, int(_SECONDS / self._seconds_per_step)))

    @property
    def max_unread_steps(self) -> int:
        """Steps whose metrics may stay on the device, because they are read while later steps run."""
        if self._is_constant or self._seconds_per_step is None:
            return 64
        return max(1, min(64, int(_SECONDS / self._seconds_per_step)))

    def restart(self) -> None:
        """Start to measure anew, after something else than steps took time."""
        self._stopwatch = Stopwatch()

    def measure(self, steps: int) -> None:
        """Note that the results of `steps` further steps have arrived."""
        seconds, self._stopwatch = self._stopwatch(), Stopwatch()
        self._measurements += 1
        if self._measurements > 1:  # the first one is of the compilation
            self._seconds_per_step = max(seconds / max(steps, 1), 1e-6)
