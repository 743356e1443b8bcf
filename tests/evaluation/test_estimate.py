"""Errors of importance-weighted estimates (F1), of averages over networks (F63), of subsets (F4)."""

import numpy as np
import pytest

from dgmzoo.evaluation.estimate import Estimate
from dgmzoo.evaluation.predictive import average_over_networks
from dgmzoo.evaluation.record import subset_error
from dgmzoo.report.html import headline


def estimate_of(log_weight: np.ndarray) -> Estimate:
    """The estimate of log weights `[K, N]`, by the formulas of `evaluate` in double precision."""
    num = len(log_weight)
    log_mean = np.logaddexp.reduce(log_weight, 0) - np.log(num)
    relative = np.exp(log_weight - log_mean)
    variance = relative.var(0) / (num - 1)
    return Estimate(log_mean, variance, log_weight.mean(0), {}, {}, num_samples=num)


def test_f1_one_sample_with_the_weight_gives_no_error():
    """log w ~ N(-32, 64) has log p(x) = 0: the value is 12.5 nats too large, and the delta method says 0.055."""
    weights = np.random.default_rng(0).normal(-32, 8, (1000, 300))
    estimate = estimate_of(weights)
    assert estimate.value > 5 and np.median(estimate.effective_samples) < 3
    assert np.isnan(estimate.monte_carlo_error) and not estimate.is_precise
    record = {
        "bound": "iw", "num_samples": 1000, "value": estimate.value, "standard_error": 0.1, "split": "test",
        "monte_carlo_error": None, "effective_samples": estimate.sampling(),
    }  # fmt: skip
    assert "(effective samples 2 of 1000: a loose bound; no Monte Carlo error: 100 % of the" in headline(record)


@pytest.mark.parametrize("num_examples, spread", [(10, 0.5), (10, 1.0), (3000, 0.5), (3000, 1.0)])
def test_f1_the_error_covers_the_expected_bound_and_the_corrected_value_the_truth(num_examples, spread):
    """log w ~ N(-s^2 / 2, s^2) has log p(x) = 0, and an expected bound that many repeats show."""
    random, repeats, num_samples = np.random.default_rng(1), 100, 100
    estimates = [
        estimate_of(random.normal(-(spread**2) / 2, spread, (num_samples, num_examples))) for _ in range(repeats)
    ]
    estimates = [each for each in estimates if each.is_precise]
    values, errors = (np.array([getattr(each, name) for each in estimates]) for name in ("value", "monte_carlo_error"))
    assert len(estimates) > 80
    large = random.normal(-(spread**2) / 2, spread, (num_samples, 100_000))
    expected = -(np.logaddexp.reduce(large, 0) - np.log(num_samples)).mean()
    assert (np.abs(values - expected) < 2 * errors).mean() >= 0.9
    corrected = values - np.array([each.leading_bias for each in estimates])
    assert (np.abs(corrected) < 2 * errors).mean() >= 0.9


def test_f63_the_error_over_shared_networks_is_that_over_their_draws():
    """Examples share the networks: the error over 200 repeats is larger than that of independent examples."""
    random, num, examples = np.random.default_rng(0), 30, 400

    def draw():
        common = random.normal(0, 0.3, (num, 1))
        log_p = -2 + common + random.normal(0, 0.1, (num, examples))
        return average_over_networks([Estimate(row, np.zeros(examples), row, {}, {}) for row in log_p])

    estimates = [draw() for _ in range(200)]
    spread = np.std([each.value for each in estimates])
    assert np.mean([each.monte_carlo_error for each in estimates]) == pytest.approx(spread, rel=0.2)
    independent = np.sqrt(estimates[0].variance.sum()) / examples
    assert independent < spread / 5


def test_f4_the_error_against_the_whole_split_is_zero_for_all_of_it():
    population = np.random.default_rng(0).normal(size=1000)
    means = [np.random.default_rng(i).choice(population, 300, replace=False).mean() for i in range(2000)]
    error = subset_error(population.std(ddof=1) / 300**0.5, 300, 1000)
    assert error == pytest.approx(np.std(means), rel=0.05)
    assert subset_error(0.2, 1000, 1000) == 0
