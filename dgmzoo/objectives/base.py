"""Base class of the objectives: losses that are computed from the evidence of a model, in nats per example.

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

A combination of objective and layer whose gradient would be wrong is corrected or refused before training.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import optax

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.model.contract import Array, Batch, Evidence, Variables
from dgmzoo.model.module_tree import map_fields, parts

Result = tuple[Array, tuple[dict[str, Array], Variables]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss with its gradient estimate.

    Attributes:
      estimate: path of the gradient to the posterior, "closed" | "sampled" | "importance" | "doubly" | "score", see
        `LatentLayer.refusal`.
      collections: the objective's own mutable collection -> its reduction over devices, see `dgmzoo.model.collections`.
      needs_given: the objective gives samples back through `Query.given`, so an entry must score them.
      least_samples: least `num_samples` with which the loss is defined (2 for baselines of the other samples).

    >>> from dgmzoo import ELBO, IWAE
    >>> IWAE(num_samples=50).estimate, ELBO().estimate
    ('importance', 'closed')

    Raises:
      ValueError: `num_samples` is not an integer of at least 1, or below `least_samples`.
    """

    num_samples: int = 1
    """Samples of the latents per example (K)."""

    estimate: ClassVar[str] = "closed"
    collections: ClassVar[Mapping[str, str]] = {}
    needs_given: ClassVar[bool] = False
    least_samples: ClassVar[int] = 1

    def __post_init__(self):
        if type(self.num_samples) is not int or self.num_samples < 1:
            raise ValueError(f"expected objective.num_samples to be a whole number >= 1, got {self.num_samples!r}")
        if self.num_samples < self.least_samples:
            raise ValueError(
                f"expected objective.num_samples >= {self.least_samples} with {type(self).__name__}, "
                f"got {self.num_samples}"
            )

    def corrected(
        self, module: nn.Module, path: str = "model", estimate: str | None = None
    ) -> tuple[nn.Module, tuple[str, ...]]:
        """Replace the layers of a module whose gradients would be wrong by forms with exact gradients.

        Args:
          path: of the module, for the descriptions.
          estimate: of the layers, if it is not that of the objective: an entry that `samples_kl` (a hierarchy) has no
            KL in closed form below its top layer.

        Returns:
          The module, and a description of each replacement.
        """
        if self.estimate == "closed" and getattr(module, "samples_kl", False):
            estimate = "sampled"
        if isinstance(module, LatentLayer):
            correction = module.correction(estimate or self.estimate)
            if correction is None:
                return module, ()
            layer, description = correction
            return layer, (f"{path}: {description}",)
        descriptions, corrected_by_id = [], {}  # a layer that is used in two places remains one layer

        def change(field_path, value):
            if isinstance(value, nn.Module) and id(value) not in corrected_by_id:
                corrected_by_id[id(value)], new_descriptions = self.corrected(value, field_path, estimate)
                descriptions.extend(new_descriptions)
            return corrected_by_id.get(id(value), value)

        return map_fields(module, change, path), tuple(descriptions)

    def check(self, module: nn.Module) -> None:
        """Refuse a module with a layer whose gradient would be wrong under this objective.

        Raises:
          ValueError: with the layer and the reason.
        """
        for path, layer in variational_layers(module):
            if reason := self.refusal(layer, module):
                raise ValueError(
                    f"expected an objective with exact gradients for {path}, got {type(self).__name__}: {reason}"
                )

    def refusal(self, layer: LatentLayer, module: nn.Module) -> str | None:
        """Reason why the gradients of a layer of this module would be wrong under this objective; None if exact."""
        return next(filter(None, map(layer.refusal, self._estimates(module))), None)

    def _estimates(self, module: nn.Module) -> tuple[str, ...]:
        """Every estimate under which the layers of the module must have exact gradients."""
        is_sampled = self.estimate == "closed" and getattr(module, "samples_kl", False)
        return ("sampled" if is_sampled else self.estimate,)

    @property
    def bound_samples(self) -> int:
        """Number of samples in the bound that is maximised: K for an importance-weighted bound, 1 for a mean over K."""
        return 1

    def init(self, key: chex.PRNGKey, batch: Batch) -> Variables:
        """The objective's own parameters and state, as collections that are merged into those of the model."""
        return {}

    def optimizers(self) -> Mapping[str, optax.GradientTransformation]:
        """Optimizers of the objective's own parameters, by top-level name in "params"."""
        return {}


def variational_layers(module: nn.Module, path: str = "model") -> list[tuple[str, LatentLayer]]:
    """Paths of the variational layers among the fields of a module, at any depth, and the layers.

    >>> from dgmzoo import VAE
    >>> [(path, type(layer).__name__) for path, layer in variational_layers(VAE())]
    [('model.latent', 'VariationalLayer')]
    """
    return [(part_path, part) for part_path, part in parts(module, path) if isinstance(part, LatentLayer)]


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
