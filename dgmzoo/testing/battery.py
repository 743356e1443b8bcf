"""`check`: run all property tests on a module with a batch, and report the outcomes."""

from collections.abc import Callable, Collection, Iterable

import flax.linen as nn

from dgmzoo.model.contract import Array, Batch
from dgmzoo.objectives.base import Objective
from dgmzoo.testing import densities, laws, masks, priors, training_laws
from dgmzoo.testing.report import BatteryError, LawFailed, LawSkipped, Outcome, Report
from dgmzoo.testing.subject import Subject

Law = Callable[[Subject], str]  # returns figures; raises LawFailed or LawSkipped

LAWS: dict[str, Law] = {
    "shapes": laws.shapes,
    "state": laws.state,
    "total mass": densities.total_mass,
    "samples": densities.samples,
    "priors": priors.priors,
    "given samples": laws.given_samples,
    "given in training": training_laws.given_in_training,
    "kl": laws.divergence,
    "bad input": laws.bad_input,
    "examples": laws.examples,
    "masked elements": masks.masked_elements,
    "marginals": masks.marginals,
    "padding": masks.padding,
    "gradients": training_laws.gradients,
    "compilation": laws.compilation,
    "seeds": training_laws.seeds,
}
"""Name of a law -> its function, in the order in which they run. The first line of each docstring states the law."""


def check(
    module: nn.Module,
    batch: Batch,
    *,
    objective: Objective | None = None,
    key: Array | None = None,
    values: Iterable[float] | None = None,
    end: int | None = None,
    only: Collection[str] | None = None,
    raises: bool = True,
) -> Report:
    """Test that a module keeps the contract and that its density is a density.

    The laws are those of `LAWS`. They use the first 16 rows of the batch. Parameters get random noise, so that a density
    is not nearly the same everywhere, except those that only the posterior depends on. A density whose x has too many
    values to enumerate, or too many dimensions to integrate, is not proved; test the module at a small `shape`.

    Args:
      module: a Flax module with `evidence(batch, query)`, with its shape.
      batch: `{"x": [B, ...]}`, with what the module reads: `label`, `context`, `mask`, `length`. B is at least 2.
      objective: the training loss, for the laws of gradients; None: the ELBO at the samples.
      key: of all random numbers; None: `jax.random.key(0)`.
      values: all values that an element of x can take. None: those of the module's likelihood; without one, they are
        inferred from x: 0 and 1, whole numbers from 0 to the largest, or real numbers.
      end: the token that ends a sequence of variable length; None: the module's field `end`, where it has one.
      only: names of the laws to test; None: all.
      raises: raise an error where a law fails; otherwise the report says so.

    Returns:
      The outcome of each law.

    Raises:
      BatteryError: a law failed; the message names each, with what was expected, what came, and what to look at.
      ValueError: the module has no evidence, the batch fewer than two rows, or a name of `only` is no law.

    >>> import jax.numpy as jnp
    >>> from dgmzoo import MADE
    >>> rows = jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    >>> report = check(MADE(hidden=(8,), shape=(3,)), {"x": rows}, only=("shapes", "total mass"))
    >>> [outcome.status for outcome in report.outcomes]
    ['passed', 'passed']
    """
    if unknown := set(only or ()) - set(LAWS):
        raise ValueError(f"expected laws among {', '.join(LAWS)}, got {', '.join(sorted(unknown))}")
    subject = Subject(module, batch, objective, key, values, end)
    outcomes = []
    for name, law in LAWS.items():
        if only is None or name in only:
            outcomes.append(_outcome(name, law, subject))
            if name == "shapes" and outcomes[-1].status == "failed":
                rest = [other for other in LAWS if other != name and (only is None or other in only)]
                outcomes += [Outcome(other, "skipped", "the module gives no valid evidence") for other in rest]
                break
    report = Report(type(module).__name__, tuple(outcomes))
    if raises and report.failed:
        failures = "\n".join(f"{outcome.law}: {outcome.detail}" for outcome in report.failed)
        raise BatteryError(f"expected {report.name} to keep every law, got {len(report.failed)} that fail:\n{failures}")
    return report


def _outcome(name: str, law: Law, subject: Subject) -> Outcome:
    try:
        return Outcome(name, "passed", law(subject))
    except LawFailed as failure:
        return Outcome(name, "failed", str(failure))
    except LawSkipped as reason:
        return Outcome(name, "skipped", str(reason))
    except Exception as error:  # of the module under test
        first_line = str(error).strip().partition("\n")[0]
        return Outcome(name, "failed", f"expected the law to run, got {type(error).__name__}: {first_line}")
