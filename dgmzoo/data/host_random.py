"""Random integers, permutations and binarized values that are the same in every version of NumPy.

Only `random_raw` is read: a bit generator's raw stream never changes between versions or platforms (NEP 19), while
`Generator.permutation` may. Streams of different purposes have different keys.
"""

from typing import Literal

import numpy as np

_PURPOSES = ("order", "split", "binarization", "toy")
_WORDS_PER_CHUNK = 1 << 13
_SUBSET_STREAM = 1 << 20  # of the purpose "split", whose own streams are 0 and small


def philox_words(seed: int, purpose: str, num: int, stream: int = 0, start: int = 0) -> np.ndarray:
    """Uniform 64-bit words [num] of the stream that (seed, purpose, stream) identifies.

    Args:
      purpose: order, split, binarization or toy.
      start: words of the stream to skip, a multiple of 4.

    >>> philox_words(0, "toy", 8)[4:].tolist() == philox_words(0, "toy", 4, start=4).tolist()
    True
    """
    key = (np.uint64(seed), np.uint64(stream * len(_PURPOSES) + _PURPOSES.index(purpose)))
    counter = np.array([start // 4, 0, 0, 0], np.uint64)
    return np.random.Philox(key=np.array(key), counter=counter).random_raw(num)


def order(seed: int, epoch: int, num: int, purpose: Literal["order", "split"] = "order") -> np.ndarray:
    """The order of rows in one epoch: a permutation int32 [num], the same on every platform and version.

    >>> order(0, 0, 5).tolist() == order(0, 0, 5).tolist() != order(0, 1, 5).tolist()
    True
    """
    if num > np.iinfo(np.int32).max:
        raise ValueError(f"expected at most 2^31 - 1 rows, got {num}; split the set")
    return np.argsort(philox_words(seed, purpose, num, stream=epoch), kind="stable").astype(np.int32)


def subset(size: int, num: int) -> np.ndarray:
    """`num` of `size` row numbers without replacement, int32 [num], always the same; a larger `num` adds rows at the end.

    >>> subset(100, 3).tolist() == subset(100, 5)[:3].tolist()
    True
    """
    return order(0, _SUBSET_STREAM, size, "split")[:num]


def bernoulli_threshold(rows: np.ndarray, maximum: int | None) -> np.ndarray:
    """16-bit thresholds t of intensities, uint32 in 0..65536: a uniform u of 16 bits has P(u < t) = t / 65536.

    t is intensity * 65536 rounded. Hence 0 and 1 are exact, and any other probability is off by at most 2^-17; levels
    of a power of two (digits: 16) are exact. `observe.Observe` computes the same on the device.

    >>> bernoulli_threshold(np.array([0, 4, 16], np.uint8), 16).tolist()
    [0, 16384, 65536]
    """
    if maximum is None:
        return np.rint(rows.astype(np.float64) * 65536).astype(np.uint32)
    return (rows.astype(np.uint32) * np.uint32(65536) + np.uint32(maximum // 2)) // np.uint32(maximum)


def binarize(rows: np.ndarray, row_numbers: np.ndarray, maximum: int | None, seed: int, stream: int = 0) -> np.ndarray:
    """One Bernoulli sample per value, uint8 [N, ...], a function of seed, row number and intensity alone.

    Args:
      rows: intensities [N, ...], over `maximum` if that is not None.
      row_numbers: [N] positions of the rows in the whole set, in its published order; the split does not matter.
      stream: another number gives an independent sample.

    >>> binarize(np.array([[0, 16]], np.uint8), np.array([7]), 16, seed=0).tolist()
    [[0, 1]]
    """
    size = int(np.prod(rows.shape[1:]))
    words_per_row = -(-size // 16) * 4  # a word holds four 16-bit numbers, and the Philox counter steps by four words
    rows_per_chunk = max(1, _WORDS_PER_CHUNK // words_per_row)
    bits = np.empty((len(rows), size), np.uint8)
    chunks = row_numbers // rows_per_chunk
    by_chunk = np.argsort(chunks, kind="stable")
    starts = np.flatnonzero(np.diff(chunks[by_chunk], prepend=-1))
    for low, high in zip(starts, [*starts[1:], len(rows)], strict=True):
        positions = by_chunk[low:high]
        chunk = int(chunks[positions[0]])
        words_per_chunk = rows_per_chunk * words_per_row
        words = philox_words(seed, "binarization", words_per_chunk, stream, chunk * words_per_chunk)
        rows_in_chunk = row_numbers[positions] - chunk * rows_per_chunk
        uniform = words.astype("<u8").view("<u2").reshape(rows_per_chunk, -1)[rows_in_chunk, :size]
        bits[positions] = uniform < bernoulli_threshold(rows[positions].reshape(len(positions), size), maximum)
    return bits.reshape(rows.shape)
