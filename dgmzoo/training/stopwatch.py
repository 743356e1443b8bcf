"""Time that only ever passes."""

import time


class Stopwatch:
    """Seconds since it was made. They never run backwards, whatever the system's clock does."""

    def __init__(self, passed: float = 0.0):
        self._passed, self._seen = passed, time.monotonic()

    def __call__(self) -> float:
        now = time.monotonic()
        self._passed += max(0.0, now - self._seen)
        self._seen = now
        return self._passed
