"""`page`: the Markdown page that tells which latent layers work with which objectives."""

import numpyro.distributions as dist

from dgmzoo.config.names import LATENTS, OBJECTIVES
from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.spherical import SphericalLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.model.compatibility import Answer, Needs, answer
from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal, RectifiedNormal


def layers() -> dict[str, LatentLayer]:
    """The layers of the page: every registered one with its defaults, and variants with other facts."""
    bits = dist.BernoulliLogits
    return {name: cls() for name, cls in LATENTS.items()} | {
        "normal, posterior and prior BernoulliLogits": VariationalLayer(posterior=bits, prior=bits),
        "normal, posterior Pareto, prior LogNormal": VariationalLayer(posterior=dist.Pareto, prior=dist.LogNormal),
        "normal, prior horseshoe": VariationalLayer(prior=Horseshoe),
        "normal, posterior and prior rectified": VariationalLayer(posterior=RectifiedNormal, prior=RectifiedNormal),
        "piecewise, prior piecewise": PiecewiseLayer(prior=PiecewiseNormal),
        "piecewise, prior piecewise, centred": PiecewiseLayer(prior=PiecewiseNormal, centred=True),
        "spherical, 3 dimensions": SphericalLayer(units=3),
        "spherical, 3 dimensions, learned prior": SphericalLayer(units=3, learned_prior=True),
    }


def columns() -> dict[str, Needs]:
    """The columns of the page: every objective, and the ELBO below another layer of a hierarchy."""
    needs = {name: cls.needs for name, cls in OBJECTIVES.items()}
    return needs | {"elbo, below another layer": OBJECTIVES["elbo"].needs.at_samples()}


def page() -> str:
    """The page: a table of answers with numbers of reasons, and the list of reasons.

    >>> page().splitlines()[0]
    '# Layers and objectives'
    """
    header = list(columns())
    reasons: list[str] = []
    lines = [
        "# Layers and objectives",
        "",
        "An objective's gradient is *exact* for a layer, or the layer is *corrected* (replaced by a form of the same model "
        "whose gradient is exact), or the gradient is *biased* and the record says so, or the pair is *refused*. "
        "`dgmzoo compatibility` prints this page.",
        "",
        f"| layer | {' | '.join(header)} |",
        f"| --- |{' --- |' * len(header)}",
    ]
    for name, layer in layers().items():
        cells = []
        for needs in columns().values():
            judgment, _ = answer(layer, needs)
            cells.append(judgment.kind + _footnote(judgment, reasons))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *(f"{i}. {reason}" for i, reason in enumerate(reasons, 1)), ""]
    return "\n".join(lines)


def _footnote(judgment: Answer, reasons: list[str]) -> str:
    """Number of the reason, which is added to the list if it is new."""
    if judgment.kind == "exact":
        return ""
    joint = ", so " if judgment.kind == "corrected" else "; "
    text = joint.join(filter(None, (judgment.reason, judgment.advice)))
    if text not in reasons:
        reasons.append(text)
    return f" ({reasons.index(text) + 1})"
