"""`Estimate`: the negative log-likelihood of a split or its bound, with errors, effective samples, KL and code use."""

import dataclasses
import math

import numpy as np

LEAST_EFFECTIVE = 10.0
"""Effective samples of an example below which its Monte Carlo error says little."""
MOST_IMPRECISE = 0.05
"""Share of examples with fewer effective samples up to which a Monte Carlo error is given."""
LARGEST_TAIL_SHAPE = 0.7
"""Pareto shape of importance weights above which their mean does not converge in practice (Vehtari et al. 2024)."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Estimate of the negative log-likelihood of a split, or of a bound, in nats per example; lower is better.

    Attributes:
      per_example: `[N]`, log p(x), or the bound.
      variance: `[N]`, of the estimator, by the delta method; NaN for a single sample, 0 for an exact density.
      per_example_elbo: `[N]`, mean of log p(x, z) - log q(z | x).
      kl: layer -> `[U]`, mean over examples.
      means: layer -> `[N, U]`, posterior means of layers of real numbers.
      codes: layer of classes -> `[N, U]`, most probable class.
      num_samples: K importance samples of an example, or networks that are averaged.
      tail_shape: `[N]`, Pareto shape of the largest weights of an example; None: too few samples, or no weights.
      weight_kl: KL of random weights for the whole data set.
      aux: name -> mean over examples of a further loss term.
      shared_error: standard error of the value due to random numbers that all examples share; None: they share none.

    >>> zeros = np.zeros(2)
    >>> estimate = Estimate(np.array([-1.0, -3.0]), variance=zeros, per_example_elbo=zeros, kl={}, means={})
    >>> estimate.value, estimate.standard_error
    (2.0, 1.0)
    """

    per_example: np.ndarray
    variance: np.ndarray
    per_example_elbo: np.ndarray
    kl: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    codes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    num_samples: int = 1
    tail_shape: np.ndarray | None = None
    weight_kl: float = 0.0
    aux: dict[str, float] = dataclasses.field(default_factory=dict)
    shared_error: float | None = None

    @property
    def value(self) -> float:
        """Mean negative log-likelihood or bound."""
        return -float(self.per_example.mean(dtype=np.float64))

    def shifted(self, log_det: np.ndarray) -> "Estimate":
        """The estimate in the units of the data before their columns were divided: log p less `log_det [N]` nats.

        >>> zeros = np.zeros(2)
        >>> Estimate(zeros, zeros, zeros, {}, {}).shifted(np.array([1.0, 3.0])).value
        2.0
        """
        if not np.any(log_det):
            return self
        return dataclasses.replace(
            self, per_example=self.per_example - log_det, per_example_elbo=self.per_example_elbo - log_det
        )

    @property
    def standard_error(self) -> float:
        """Standard error of the value over examples; NaN for a single example."""
        num = len(self.per_example)
        return float(self.per_example.std(ddof=1) / math.sqrt(num)) if num > 1 else math.nan

    @property
    def effective_samples(self) -> np.ndarray | None:
        """Effective number of the K samples of each example, `[N]`; None without importance weights.

        `(sum w)^2 / sum w^2`, which is K / (1 + (K - 1) v) for the variance v of the delta method.

        >>> zeros = np.zeros(2)
        >>> one_carries_all = Estimate(zeros, np.array([0.0, 1.0]), zeros, {}, {}, num_samples=5)
        >>> one_carries_all.effective_samples.tolist()
        [5.0, 1.0]
        """
        if self.num_samples < 2:
            return None
        return self.num_samples / (1 + (self.num_samples - 1) * self.variance)

    @property
    def is_precise(self) -> bool:
        """True if a Monte Carlo error can be given: few examples have fewer than 10 effective samples.

        Where one sample carries the weight, the delta method gives an error of at most 1 nat an example, whatever the
        truth is.
        """
        effective = self.effective_samples
        return effective is None or float((~(effective >= LEAST_EFFECTIVE)).mean()) <= MOST_IMPRECISE

    @property
    def monte_carlo_error(self) -> float:
        """Standard error of the value due to the importance samples alone; NaN where it cannot be given (`is_precise`)."""
        if self.shared_error is not None:
            effective = self.effective_samples
            is_loose = self.num_samples >= LEAST_EFFECTIVE and np.median(effective) < LEAST_EFFECTIVE
            return math.nan if is_loose else self.shared_error
        if not self.is_precise:
            return math.nan
        return math.sqrt(float(self.variance.sum(dtype=np.float64))) / len(self.variance)

    @property
    def leading_bias(self) -> float:
        """Mean of v / 2 over examples: the expected excess of the value over -log p(x), to first order in 1 / K.

        Source: Nowozin 2018, "Debiasing evidence approximations", equation 7.
        """
        return float(self.variance.mean(dtype=np.float64)) / 2

    @property
    def elbo(self) -> float:
        """Mean of log p(x, z) - log q(z | x)."""
        return float(self.per_example_elbo.mean(dtype=np.float64))

    @property
    def kl_by_layer(self) -> dict[str, float]:
        """`kl/<layer>` -> nats."""
        return {f"kl/{name}": float(units.sum()) for name, units in self.kl.items()}

    def active_units(self, threshold: float = 0.01) -> dict[str, int]:
        """Layer -> number of units whose posterior mean has a variance over x above the threshold.

        Source: Burda et al. 2016, section 5.2.
        """
        return {name: int((mean.var(0) > threshold).sum()) for name, mean in self.means.items()}

    def code_use(self) -> dict[str, dict[str, float]]:
        """Layer of classes -> classes "used" by an example, and "perplexity" of their use over all examples.

        Both are averaged over the units, each of which uses the most probable class of an example.

        >>> zeros = np.zeros(4)
        >>> estimate = Estimate(zeros, zeros, zeros, kl={}, means={}, codes={"z": np.array([[0], [0], [5], [5]])})
        >>> estimate.code_use()
        {'z': {'used': 2.0, 'perplexity': 2.0}}
        """
        use = {}
        for name, codes in self.codes.items():
            counts = [np.unique(unit, return_counts=True)[1] for unit in codes.reshape(len(codes), -1).T]
            entropies = [-float((count / len(codes) * np.log(count / len(codes))).sum()) for count in counts]
            use[name] = {
                "used": float(np.mean([len(count) for count in counts])),
                "perplexity": round(float(np.mean(np.exp(entropies))), 6),
            }
        return use

    def sampling(self) -> dict[str, float | None] | None:
        """Quality of the importance weights, for the record; None where there are none.

        - "median", "least": effective samples over the examples.
        - "few": share of examples with fewer than 10.
        - "heavy": share of examples whose weights have a Pareto shape above 0.7, as those of a posterior that is too
          narrow; effective samples do not show it. Absent with fewer than 25 samples.
        - "bias": `leading_bias`, in nats.

        >>> zeros = np.zeros(2)
        >>> Estimate(zeros, np.array([0.0, 1.0]), zeros, {}, {}, num_samples=5).sampling()
        {'median': 3.0, 'least': 1.0, 'few': 1.0, 'bias': 0.25}
        """
        if (effective := self.effective_samples) is None:
            return None
        quality = {
            "median": _rounded(np.median(effective), 2),
            "least": _rounded(effective.min(), 2),
            "few": round(float((~(effective >= LEAST_EFFECTIVE)).mean()), 4),
        }
        if self.tail_shape is not None:
            quality["heavy"] = round(float((self.tail_shape > LARGEST_TAIL_SHAPE).mean()), 4)
        return quality | {"bias": _rounded(self.leading_bias, 6)}


def _rounded(value: float, digits: int) -> float | None:
    """The value, or None if it is not finite, which JSON cannot represent."""
    return round(float(value), digits) if math.isfinite(value) else None
