"""`Report`: the results of all property tests; `Outcome`: the result of one; `LawFailed`: the error of a failed test."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np


class BatteryError(AssertionError):
    """At least one law failed; the message names each, with what was expected, what came, and what to look at.

    >>> issubclass(BatteryError, AssertionError)
    True
    """


class LawFailed(Exception):
    """A law does not hold. The message says what was expected, what came, and what to look at.

    >>> str(LawFailed("expected a mass of 1, got 2"))
    'expected a mass of 1, got 2'
    """


class LawSkipped(Exception):
    """A law cannot be tested on this module. The message gives the reason.

    >>> str(LawSkipped("no latents"))
    'no latents'
    """


class Outcome(NamedTuple):
    """The outcome of one law.

    >>> Outcome("mask", "skipped", "the batch has no mask").status
    'skipped'
    """

    law: str
    status: Literal["passed", "failed", "skipped"]
    detail: str
    """Figures of a law that passed, the message of one that failed, the reason of one that was skipped."""


class Report(NamedTuple):
    """Outcomes of all laws, in the order in which they ran.

    >>> report = Report("VAE", (Outcome("shapes", "passed", ""), Outcome("mask", "failed", "expected 1, got 2")))
    >>> [outcome.law for outcome in report.failed]
    ['mask']
    >>> print(report)
    the battery of VAE: 1 passed, 1 failed, 0 skipped
      passed   shapes
      failed   mask: expected 1, got 2
    """

    name: str
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The outcomes of laws that failed."""
        return self._with_status("failed")

    @property
    def skipped(self) -> tuple[Outcome, ...]:
        """The outcomes of laws that could not be tested."""
        return self._with_status("skipped")

    @property
    def passed(self) -> tuple[Outcome, ...]:
        """The outcomes of laws that hold."""
        return self._with_status("passed")

    def _with_status(self, status: str) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.status == status)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self._with_status(status))} {status}" for status in ("passed", "failed", "skipped"))
        lines = [f"the battery of {self.name}: {counts}"]
        lines += [
            f"  {outcome.status:8} {outcome.law}{': ' if outcome.detail else ''}{outcome.detail}"
            for outcome in self.outcomes
        ]
        return "\n".join([*lines, *self.unproved])

    @property
    def unproved(self) -> tuple[str, ...]:
        """One line for each law of the density that was skipped, since a report without failures proves nothing there.

        >>> Report("VAE", (Outcome("total mass", "skipped", "x is continuous in 9 dimensions"),)).unproved
        ('not proved: the density has total mass 1 (x is continuous in 9 dimensions)',)
        """
        claims = {"total mass": "the density has total mass 1", "samples": "samples follow the density"}
        return tuple(
            f"not proved: {claims[outcome.law]} ({outcome.detail})" for outcome in self.skipped if outcome.law in claims
        )


def require(condition: Any, message: str) -> None:
    """Fail the law with a message unless the condition holds.

    >>> require(True, "expected truth")
    """
    if not condition:
        raise LawFailed(message)


def require_finite(array: Any, name: str, advice: str) -> None:
    """Fail the law if an array holds a NaN or an infinity.

    >>> require_finite(np.ones(3), "loss", "look at logarithms")
    """
    array = np.asarray(array)
    if not np.isfinite(array).all():
        raise LawFailed(f"expected finite {name}, got {array[~np.isfinite(array)][0]}; {advice}")


def require_equal(expected: Any, actual: Any, meaning: str, advice: str, tolerance: float = 5e-5) -> None:
    """Fail the law unless two trees of arrays agree; the message names the leaf that differs most.

    Args:
      meaning: of the actual tree, for the message.
      advice: the place to look at.
      tolerance: allowed difference, relative to the larger of 1 and the expected value.

    >>> require_equal({"z": np.ones(3)}, {"z": np.ones(3)}, "evidence", "look at z")
    """
    worst, message = 0.0, ""
    pairs = zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(actual), strict=True)
    for (path, a), b in pairs:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        name = f"{meaning} {jax.tree_util.keystr(path)}".strip()
        require(a.shape == b.shape, f"expected {name} of shape {a.shape}, got {b.shape}; {advice}")
        with np.errstate(invalid="ignore"):
            error = np.abs(a - b) / np.maximum(1, np.abs(a))
        error = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.where(np.isnan(error), np.inf, error))
        if error.size and error.max() > worst:
            at = np.unravel_index(error.argmax(), error.shape)
            worst = error.max()
            message = f"expected {name}{[int(i) for i in at]} = {a[at]:.6g}, got {b[at]:.6g}; {advice}"
    require(worst <= tolerance, message)


def leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Name and array of every leaf of a tree.

    >>> [name for name, _ in leaves({"a": {"b": 1}})]
    ["['a']['b']"]
    """
    for path, leaf in jax.tree.leaves_with_path(tree):
        yield jax.tree_util.keystr(path), leaf
