"""Random numbers of the host: the same on every platform, uniform, and independent."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from dgmzoo.data import host_random


def test_order_is_a_permutation_pinned_across_platforms():
    first = host_random.order(0, 0, 60_000)
    assert first.dtype == np.int32
    np.testing.assert_array_equal(np.sort(first), np.arange(60_000))
    assert hashlib.sha256(first.astype("<i4").tobytes()).hexdigest()[:16] == "34e8c78ca1d024b7"


def test_orders_of_epochs_seeds_and_purposes_differ():
    orders = [host_random.order(*key, 100) for key in [(0, 0), (0, 1), (1, 0), (2**62, 0)]]
    orders.append(host_random.order(0, 0, 100, "split"))
    assert len({o.tobytes() for o in orders}) == len(orders)


def test_position_of_a_row_is_uniform_over_epochs():
    positions = np.bincount(
        [np.flatnonzero(host_random.order(3, epoch, 10) == 0)[0] for epoch in range(2000)], minlength=10
    )
    assert stats.chisquare(positions).pvalue > 1e-3


def test_stream_may_be_read_from_a_later_start():
    whole = host_random.philox_words(5, "binarization", 64, stream=2)
    np.testing.assert_array_equal(host_random.philox_words(5, "binarization", 20, stream=2, start=12), whole[12:32])


def test_thresholds_are_within_half_a_step_of_the_intensity():
    for maximum in (1, 16, 255):
        level = np.arange(maximum + 1)
        t = host_random.bernoulli_threshold(level.astype(np.uint8), maximum).astype(np.int64)
        assert np.abs(t * maximum - level * 65536).max() * 2 <= maximum  # |t / 65536 - level / maximum| <= 2^-17
        assert t[0] == 0 and t[-1] == 65536
    exact = host_random.bernoulli_threshold(np.arange(17, dtype=np.uint8), 16)
    np.testing.assert_array_equal(exact, np.arange(17) * 4096)


def test_binarized_values_have_the_intensities_as_means():
    levels = np.array([0, 1, 64, 128, 200, 254, 255], np.uint8)
    rows = np.tile(levels, (40_000, 1))
    ones = host_random.binarize(rows, np.arange(40_000), 255, seed=1).sum(0)
    for level, count in zip(levels, ones, strict=True):
        assert stats.binomtest(int(count), 40_000, level / 255).pvalue > 1e-4
    assert ones[0] == 0 and ones[-1] == 40_000


def test_binarization_depends_on_seed_and_row_number_alone():
    rows = np.random.default_rng(0).integers(0, 256, (3000, 5, 7, 1)).astype(np.uint8)
    whole = host_random.binarize(rows, np.arange(3000), 255, seed=4)
    subset = np.random.default_rng(1).permutation(3000)[:500]
    np.testing.assert_array_equal(host_random.binarize(rows[subset], subset, 255, seed=4), whole[subset])
    assert (host_random.binarize(rows, np.arange(3000), 255, seed=5) != whole).any()


def test_binarized_values_are_independent():
    half = np.full((20_000, 33), 0.5, np.float32)
    bits = host_random.binarize(half, np.arange(20_000), None, seed=0).astype(float)
    correlation = np.corrcoef(bits.T)[np.triu_indices(33, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(bits[:-1].ravel(), bits[1:].ravel())[0, 1]) < 5 / np.sqrt(bits.size)


def test_too_many_rows_are_refused():
    with pytest.raises(ValueError, match="at most"):
        host_random.order(0, 0, 2**31)
