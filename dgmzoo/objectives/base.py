"""Objectives: what is minimised, given a model's evidence. Nats per example; one reduction, here.

An objective is called as `objective(model, variables, batch, key, step, num_data) -> (loss, (metrics, updates))`.
Where it needs parameters or state of its own, `init` adds them to the variables and `optimizers` trains them.
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
    """What all objectives share.

    Attributes:
      estimate: how gradients reach the posterior: "closed" | "sampled" | "importance" | "doubly" | "score".
    """

    num_samples: int = 1
    """Samples of the latents per example (K)."""

    estimate: ClassVar[str] = "closed"

    def __post_init__(self):
        if type(self.num_samples) is not int or self.num_samples < 1:
            raise ValueError(f"expected objective.num_samples to be a whole number >= 1, got {self.num_samples!r}")

    def corrected(
        self, module: nn.Module, path: str = "model", estimate: str | None = None
    ) -> tuple[nn.Module, tuple[str, ...]]:
        """The module with its layers in forms whose gradients are right under this objective; what changed, in words.

        Args:
          estimate: how gradients reach the layers, where that is another way than the objective's own: an entry that
            `samples_kl` (a hierarchy) has no closed KL below its top.
        """
        if self.estimate == "closed" and getattr(module, "samples_kl", False):
            estimate = "sampled"
        if isinstance(module, LatentLayer):
            found = module.correction(estimate or self.estimate)
            return (found[0], (f"{path}: {found[1]}",)) if found else (module, ())
        said, done = [], {}  # a layer in two places stays one

        def change(where, value):
            if isinstance(value, nn.Module) and id(value) not in done:
                done[id(value)], words = self.corrected(value, where, estimate)
                said.extend(words)
            return done.get(id(value), value)

        return map_fields(module, change, path), tuple(said)

    def check(self, module: nn.Module) -> None:
        """Refuse a module with a layer whose gradient would be wrong under this objective.

        Raises:
          ValueError: with the reason.
        """
        for field, layer in variational_layers(module):
            if reason := self.refusal(layer, module):
                raise ValueError(
                    f"expected an objective with exact gradients for {field}, got {type(self).__name__}: {reason}"
                )

    def refusal(self, layer: LatentLayer, module: nn.Module) -> str | None:
        """Why a layer's gradients would be wrong under this objective, in this module; None where they are exact."""
        return next(filter(None, map(layer.refusal, self._estimates(module))), None)

    def _estimates(self, module: nn.Module) -> tuple[str, ...]:
        """How gradients reach the layers of the module."""
        sampled = self.estimate == "closed" and getattr(module, "samples_kl", False)
        return ("sampled" if sampled else self.estimate,)

    @property
    def bound_samples(self) -> int:
        """Samples of which the bound is made that is maximised: K for one of K samples, 1 for a mean over K."""
        return 1

    def init(self, key: chex.PRNGKey, batch: Batch) -> Variables:
        """Parameters and state of the objective's own, as collections to be merged into the model's."""
        return {}

    def optimizers(self) -> Mapping[str, optax.GradientTransformation]:
        """Optimizers for top-level names of "params" that are not the model's."""
        return {}


def variational_layers(module: nn.Module, path: str = "model") -> list[tuple[str, LatentLayer]]:
    """The variational layers among a module's fields, at any depth, with their paths."""
    return [(where, part) for where, part in parts(module, path) if isinstance(part, LatentLayer)]


def finish(loss: Array, evidence: Evidence, num_data: int, updates: Variables) -> Result:
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
