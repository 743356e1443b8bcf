"""`check_whole`: refuse a value that is not a positive integer; `check_range`: refuse a number outside an interval."""

import math
import operator
from typing import Any


def check_whole(name: str, value: Any) -> None:
    """Refuse a value that is not an integer of 1 or more.

    >>> check_whole("batch_size", 0)
    Traceback (most recent call last):
    ValueError: expected batch_size to be a whole number, 1 or more, got 0
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected {name} to be a whole number, 1 or more, got {value!r}")


def check_seed(seed: int) -> int:
    """A seed as a Python integer.

    Raises:
      ValueError: not a whole number from 0 to 2^32 - 1, the seeds that give different keys in JAX.

    >>> import numpy as np
    >>> check_seed(np.int64(7))
    7
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise ValueError(f"expected a seed that is a whole number, got {seed!r}") from None
    if not 0 <= number < 2**32:
        raise ValueError(f"expected a seed from 0 to {2**32 - 1}, got {number}")
    return number


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value that is not a finite number strictly between `low` and `high`.

    >>> check_range("learning_rate", 2.0, 0, 1)
    Traceback (most recent call last):
    ValueError: expected learning_rate between 0 and 1, got 2.0
    """
    if not math.isfinite(value) or not low < value < high:
        raise ValueError(f"expected {name} between {low} and {high}, got {value!r}")
