"""`Objective`: the base class of training losses; `finish`: add the extra losses and collect the metrics.

An objective is called as `objective(model, variables, batch, key, step, num_data) -> (loss, (metrics, updates))`. The loss
is a mean over the batch; all terms before it are per example. An objective with parameters or state of its own adds them
to the variables in `init`, and names their optimizers in `optimizers`.

How to choose an objective (by the name that `--objective` accepts):

- `elbo`: the usual choice. It needs a pathwise gradient, and uses the KL in closed form where a layer has one. For a
  density model without latents it is maximum likelihood.
- `iwae`: a tighter bound from K samples. The signal-to-noise ratio of the encoder's gradient falls as K grows.
- `dreg`: the bound of `iwae` with a gradient whose signal-to-noise ratio does not fall with K. A step evaluates the model
  three times.
- `nvil`: for discrete latents, whose samples have no pathwise gradient.

A combination of objective and layer whose gradient would be wrong is corrected or refused before training, by the
compatibility table (`dgmzoo compatibility` prints it).
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import chex
import numpy as np
import optax

from dgmzoo.layers.validation import check_whole
from dgmzoo.model.compatibility import Needs
from dgmzoo.model.contract import Array, Batch, Evidence, Variables

Result = tuple[Array, tuple[dict[str, Array], Variables]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss with its gradient estimate.

    Attributes:
      needs: the objective's side of the compatibility table (`dgmzoo.model.compatibility`).
      collections: the objective's own mutable collection -> its reduction over devices, see `dgmzoo.model.collections`.
      least_samples: least `num_samples` with which the loss is defined (2 for baselines of the other samples).

    >>> from dgmzoo import ELBO, IWAE
    >>> IWAE(num_samples=50).needs.kl, ELBO().needs.kl
    ('sampled', 'closed')

    Raises:
      ValueError: `num_samples` is not an integer of at least 1, or below `least_samples`.
    """

    num_samples: int = 1
    """Samples of the latents per example (K)."""

    needs: ClassVar[Needs] = Needs()
    collections: ClassVar[Mapping[str, str]] = {}
    least_samples: ClassVar[int] = 1

    def __post_init__(self):
        object.__setattr__(self, "num_samples", check_whole("objective.num_samples", self.num_samples))
        if self.num_samples < self.least_samples:
            raise ValueError(
                f"expected objective.num_samples >= {self.least_samples} with {type(self).__name__}, "
                f"got {self.num_samples}"
            )

    @property
    def bound_samples(self) -> int:
        """Number of samples in the bound that is maximised: K for an importance-weighted bound, 1 for a mean over K."""
        return 1

    def validation_loss(self, bound: float, kl: Mapping[str, np.ndarray], weight_kl: float) -> float:
        """The loss that is trained, of a whole split, warm-ups at their end; extra losses are added by the caller.

        Parameters are selected by it. Default: the negative bound. An objective whose loss is another one overrides it.

        Args:
          bound: mean over examples of the bound from `bound_samples` samples, in nats.
          kl: layer -> `[U]`, mean KL of each unit over the examples.
          weight_kl: KL of random weights, over the number of training rows.
        """
        return weight_kl - bound

    def init(self, key: chex.PRNGKey, batch: Batch) -> Variables:
        """The objective's own parameters and state, as collections that are merged into those of the model."""
        return {}

    def optimizers(self) -> Mapping[str, optax.GradientTransformation]:
        """Optimizers of the objective's own parameters, by top-level name in "params"."""
        return {}


def finish(loss: Array, evidence: Evidence, num_data: int, updates: Variables) -> Result:
    """Add the extra losses of the evidence to the loss, and collect the metrics: the last line of every objective.

    Args:
      loss: `[]`, in nats per example.
      num_data: number of training examples, over which the KL of random weights is spread.
      updates: mutable collections after the step.

    Returns:
      `(loss, (metrics, updates))`.

    >>> import jax.numpy as jnp
    >>> loss, (metrics, _) = finish(jnp.array(2.0), Evidence(jnp.full((1, 3), -2.0)), num_data=3, updates={})
    >>> float(loss), float(metrics["elbo"])
    (2.0, -2.0)
    """
    terms = {name: term.mean() for name, term in evidence.aux.items()}
    loss = sum(terms.values(), loss)
    kl = {name: latent.kl.sum(-1).mean() for name, latent in evidence.latents.items()}
    elbo = evidence.log_likelihood.mean() - sum(kl.values()) - evidence.weight_kl / num_data
    return loss, (
        {
            "loss": loss,
            "elbo": elbo,
            **{f"kl/{name}": value for name, value in kl.items()},
            **{f"extra_loss/{name}": value for name, value in terms.items()},
        },
        updates,
    )
