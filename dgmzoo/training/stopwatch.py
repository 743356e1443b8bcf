"""`Stopwatch`: a clock in seconds that can continue from an earlier total."""

import time


class Stopwatch:
    """Seconds since the stopwatch was created, plus seconds that had passed before.

    Calls return non-decreasing values, also if the system's clock is changed.

    >>> stopwatch = Stopwatch(passed=90.0)
    >>> 90.0 <= stopwatch() <= stopwatch()
    True
    """

    def __init__(self, passed: float = 0.0):
        self._passed, self._last_reading = passed, time.monotonic()

    def __call__(self) -> float:
        now = time.monotonic()
        self._passed += max(0.0, now - self._last_reading)
        self._last_reading = now
        return self._passed
