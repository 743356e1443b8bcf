"""One case of the battery: an entry or a probe, the toy rows it models and how it is trained on them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from dgmzoo.objectives.base import Objective
from dgmzoo.objectives.elbo import ELBO
from tests.support.toy_rows import BITS, ENTROPY


@dataclasses.dataclass(frozen=True)
class Case:
    """A module with its objective and rows, at a size that a test can afford."""

    name: str
    module: nn.Module
    objective: Objective = ELBO()  # noqa: RUF009 (frozen)
    rows: Mapping[str, np.ndarray] = dataclasses.field(default_factory=lambda: BITS)
    entropy: float = ENTROPY
    """Nats per example that no model of these rows can go below and a good model reaches."""
    tolerance: float = 0.05
    """Nats above the entropy at which training may end. A comment beside a larger value names the gap."""
    steps: int = 2000
    """Training steps to the entropy."""
    learning_rate: float = 0.05
    num_data: int = 16
    """Size of the data set that the KL of random weights is divided by."""
    noisy: bool = True
    """Whether the training loss draws noise."""
    same_module_as: str | None = None
    """Another case of the same module, which proves what does not depend on the objective."""
    refused_fields: tuple[Mapping[str, Any], ...] = ()
    """Fields that the module's constructor must refuse."""
    thorough: bool = False
    """Whether all tests of the case are thorough, because it varies a case that is tested in the quick tier."""
