"""Every draw the host makes: orders, splits and fixed binarizations, from NumPy's Philox.

Only `random_raw` is read: a bit generator's raw stream never changes between versions or platforms (NEP 19),
while `Generator.permutation` may. Streams of different purposes have different keys.
"""

from typing import Literal

import numpy as np

_PURPOSES = ("order", "split", "binarization", "toy")
_CHUNK_WORDS = 1 << 13


def words(seed: int, purpose: str, num: int, stream: int = 0, start: int = 0) -> np.ndarray:
    """Uniform 64-bit words [num] of the stream that seed, purpose, stream name; from `start` (of 4) on."""
    key = (np.uint64(seed), np.uint64(stream * len(_PURPOSES) + _PURPOSES.index(purpose)))
    counter = np.array([start // 4, 0, 0, 0], np.uint64)
    return np.random.Philox(key=np.array(key), counter=counter).random_raw(num)


def order(seed: int, epoch: int, num: int, purpose: Literal["order", "split"] = "order") -> np.ndarray:
    """The order of rows in one epoch: a permutation int32 [num], the same on every platform and version."""
    if num > np.iinfo(np.int32).max:
        raise ValueError(f"expected at most 2^31 - 1 rows, got {num}; split the set")
    return np.argsort(words(seed, purpose, num, stream=epoch), kind="stable").astype(np.int32)


def threshold(rows: np.ndarray, maximum: int | None) -> np.ndarray:
    """Intensities as 16-bit thresholds t, uint32 in 0..65536: a uniform u < t has probability t / 65536.

    t is intensity * 65536 rounded, hence 0 and 1 are exact and any other probability is off by at most 2^-17;
    levels of a power of two (digits: 16) are exact. `observe.Observe` computes the same on the device.
    """
    if maximum is None:
        return np.rint(rows.astype(np.float64) * 65536).astype(np.uint32)
    return (rows.astype(np.uint32) * np.uint32(65536) + np.uint32(maximum // 2)) // np.uint32(maximum)


def binarize(rows: np.ndarray, numbers: np.ndarray, maximum: int | None, seed: int) -> np.ndarray:
    """One Bernoulli draw per value, uint8 [N, ...], that depends on seed and row number alone.

    Args:
      rows: intensities [N, ...].
      numbers: [N] the rows' places in the whole set, in its published order; the split does not matter.
    """
    size = int(np.prod(rows.shape[1:]))
    per_row = -(-size // 16) * 4  # 16-bit draws come in blocks of four words
    per_chunk = max(1, _CHUNK_WORDS // per_row)
    out = np.empty((len(rows), size), np.uint8)
    chunks = numbers // per_chunk
    sequence = np.argsort(chunks, kind="stable")
    starts = np.flatnonzero(np.diff(chunks[sequence], prepend=-1))
    for low, high in zip(starts, [*starts[1:], len(rows)], strict=True):
        places = sequence[low:high]
        chunk = int(chunks[places[0]])
        drawn = words(seed, "binarization", per_chunk * per_row, start=chunk * per_chunk * per_row)
        uniform = drawn.astype("<u8").view("<u2").reshape(per_chunk, -1)[numbers[places] - chunk * per_chunk, :size]
        out[places] = uniform < threshold(rows[places].reshape(len(places), size), maximum)
    return out.reshape(rows.shape)
