"""`answer`: tell by a list of rules if the gradients of an objective are correct for a latent layer.

A layer declares facts about its posterior and prior (`Facts`), and an objective declares its needs (`Needs`). `judge`
answers for the pair, by the rules of one list:

- exact: the gradient is right.
- corrected: the gradient would be wrong, and the layer has another form of the same model for which it is right
  (`LatentLayer.alternative`). The replacement is reported and recorded.
- biased: the gradient is that of a relaxed or surrogate model. The record says so.
- refused: the gradient would be wrong; the reason and a way out are given.

A hierarchy that is inferred from below, and therefore samples its KL, is not declared. It is found when the model is
traced, by its calls of `LatentLayer.score(..., bottom_up=True)`.

The rules follow from one fact: where g jumps at b, the gradient of E g(z) has, beside its pathwise part, the term
`[g(b+) - g(b-)] dP(z > b)/dtheta`, which the pathwise gradient of samples does not contain.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

TrainingValue = Literal["exact", "relaxed", "surrogate", "deterministic"]


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts about a variational layer, which follow from its fields alone. A string gives the reason of a fact.

    Attributes:
      reparameterized: samples have a pathwise gradient in every parameter of the posterior.
      posterior: name of the posterior, for messages.
      posterior_jumps: the posterior's density jumps at a point that its parameters move.
      prior_jumps: reason why the density at samples jumps where parameters move it (a centred piecewise prior).
      support_moves: the support of the posterior depends on its parameters.
      heavy_gradient: reason why the gradient has infinite variance, or no exact form, under every objective.
      heavy_below: reason why the gradient has infinite variance below another layer.
      samples_noise: the sample is the noise of a transformed posterior, which has no inverse.
      closed_kl: the KL has a closed form, if the prior is a family.
      atom: the posterior has a point mass.
      discrete: the posterior is discrete.
      training_value: meaning of the evidence in training: "exact"; "relaxed" (of a relaxed model); "surrogate" (a
        quantity with the right gradient only); "deterministic" (a point, without a bound).

    >>> Facts(reparameterized=False).training_value
    'exact'
    """

    reparameterized: bool = True
    posterior: str = "posterior"
    posterior_jumps: bool = False
    prior_jumps: str = ""
    support_moves: bool = False
    heavy_gradient: str = ""
    heavy_below: str = ""
    samples_noise: bool = False
    closed_kl: bool = True
    atom: bool = False
    discrete: bool = False
    training_value: TrainingValue = "exact"


@dataclasses.dataclass(frozen=True)
class Needs:
    """Needs of an objective.

    Attributes:
      gradient: of the posterior's parameters: "pathwise" (through the sample), "score" (score function; samples carry no
        gradient), or "enumeration" (all values of a discrete latent are given).
      kl: "closed" (in closed form, where there is one), or "sampled" (log q - log p at samples is differentiated).
      several: the objective weights several samples against each other.
      doubly: the score of q is turned into a pathwise gradient.
      given: the objective gives samples back through `Query.given`, so that an entry must score them.
      above: the prior of the layer depends on a layer above. The structure of the model decides it.
      below: a layer above was inferred from the sample of the layer. The structure of the model decides it.

    >>> Needs(kl="sampled", several=True).gradient
    'pathwise'
    """

    gradient: Literal["pathwise", "score", "enumeration"] = "pathwise"
    kl: Literal["closed", "sampled"] = "closed"
    several: bool = False
    doubly: bool = False
    given: bool = False
    above: bool = False
    below: bool = False

    def at_samples(self) -> "Needs":
        """The needs for a layer that the structure of the model scores at its sample.

        >>> Needs().at_samples().kl
        'sampled'
        """
        return dataclasses.replace(self, kl="sampled", below=True)


class Answer(NamedTuple):
    """The answer of the table for a layer and an objective.

    >>> Answer("refused", "its density jumps", "use iwae").message
    'its density jumps; use iwae'
    """

    kind: Literal["exact", "corrected", "biased", "refused"]
    reason: str = ""
    advice: str = ""

    @property
    def message(self) -> str:
        return "; ".join(filter(None, (self.reason, self.advice)))


class Rule(NamedTuple):
    """A row of the table: a reason why the plain gradient would be wrong.

    `applies` tells whether the reason holds for facts and needs, `reason` puts it in words, and `advice` names a way out.
    """

    name: str
    applies: Callable[[Facts, Needs], bool]
    reason: Callable[[Facts], str]
    advice: str
    biased: bool = False


def _density_at_samples(facts: Facts, needs: Needs) -> bool:
    """True if log p at samples is differentiated along the path of the samples."""
    return needs.gradient == "pathwise" and (needs.kl == "sampled" or not facts.closed_kl)


RULES: tuple[Rule, ...] = (
    Rule(
        "heavy gradient",
        lambda facts, needs: bool(facts.heavy_gradient),
        lambda facts: facts.heavy_gradient,
        "choose another layer",
    ),
    Rule(
        "no score function",
        lambda facts, needs: needs.gradient == "score" and facts.reparameterized,
        lambda facts: "its posterior is reparameterized, and its samples carry a pathwise gradient",
        "use a pathwise objective (elbo, iwae)",
    ),
    Rule(
        "no pathwise gradient",
        lambda facts, needs: needs.gradient == "pathwise" and not facts.reparameterized,
        lambda facts: f"its posterior {facts.posterior} has no pathwise gradient",
        "use a score-function objective (nvil)",
    ),
    Rule(
        "deterministic with importance weights",
        lambda facts, needs: facts.training_value == "deterministic" and needs.several,
        lambda facts: "it has no noise, so that all samples are equal",
        "use elbo",
    ),
    Rule(
        "deterministic below another layer",
        lambda facts, needs: facts.training_value == "deterministic" and needs.below,
        lambda facts: "x would depend on the lowest layer only, and those above never be trained",
        "use one layer of latents",
    ),
    Rule(
        "prior jumps",
        lambda facts, needs: bool(facts.prior_jumps) and _density_at_samples(facts, needs),
        lambda facts: facts.prior_jumps,
        "use elbo with one layer of latents, or centred=False",
    ),
    Rule(
        "heavy below another layer",
        lambda facts, needs: bool(facts.heavy_below) and (needs.above or needs.below),
        lambda facts: facts.heavy_below,
        "use another layer, or at least 4 dimensions",
    ),
    Rule(
        "support moves",
        lambda facts, needs: needs.doubly and facts.support_moves,
        lambda facts: f"the support of its posterior {facts.posterior} moves with the parameters",
        "use iwae",
    ),
    Rule(
        "posterior jumps",
        lambda facts, needs: needs.doubly and facts.posterior_jumps,
        lambda facts: f"the density of its posterior {facts.posterior} jumps where the parameters move it",
        "use iwae",
    ),
    Rule(
        "noise as sample",
        lambda facts, needs: needs.doubly and facts.samples_noise,
        lambda facts: (
            f"the sample of its posterior {facts.posterior} is noise, whose density has no parameters, so that there is "
            "no score to turn into a pathwise gradient"
        ),
        "use iwae",
    ),
    Rule(
        "relaxed",
        lambda facts, needs: needs.gradient == "pathwise" and facts.training_value == "relaxed",
        lambda facts: "training is on relaxed samples, so that its gradient is that of a relaxed model",
        "",
        biased=True,
    ),
)
"""The rules of the table. The first that applies gives the answer; where none applies, the gradient is exact."""


class Layer(Protocol):
    """The part of a variational layer that the table reads."""

    def facts(self) -> Facts:
        """The facts of the layer, from its fields alone."""

    def alternative(self) -> "tuple[Layer, str] | None":
        """A layer of the same model with other facts, and the change in words."""


def judge(facts: Facts, needs: Needs) -> Answer:
    """The answer for a layer with these facts under an objective with these needs, without an alternative layer.

    >>> judge(Facts(), Needs()).kind
    'exact'
    >>> judge(Facts(reparameterized=False, posterior="Poisson"), Needs()).message
    'its posterior Poisson has no pathwise gradient; use a score-function objective (nvil)'
    """
    for rule in RULES:
        if rule.applies(facts, needs):
            return Answer("biased" if rule.biased else "refused", rule.reason(facts), rule.advice)
    return Answer("exact")


def answer(layer: Layer, needs: Needs) -> tuple[Answer, Layer]:
    """The answer for a layer, and the layer to train: its alternative where that is corrected, otherwise the layer itself.

    >>> from dgmzoo import PiecewiseLayer, PiecewiseNormal
    >>> layer = PiecewiseLayer(prior=PiecewiseNormal, centred=True)
    >>> answer(layer, Needs(kl="sampled", several=True))[0].kind
    'corrected'
    """
    plain = judge(layer.facts(), needs)
    if plain.kind != "refused" or (alternative := layer.alternative()) is None:
        return plain, layer
    other, effect = alternative
    if (of_other := judge(other.facts(), needs)).kind == "refused":
        return of_other, layer
    return Answer("corrected", plain.reason, effect), other
