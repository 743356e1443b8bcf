"""`masked_elements`: test that masked values have no influence; `padding`: test that padded steps have none."""

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Query
from dgmzoo.testing.report import LawFailed, LawSkipped, require_equal, require_finite
from dgmzoo.testing.subject import K, Subject, density_terms


def masked_elements(subject: Subject) -> str:
    """Elements that the mask hides do not influence the evidence, whatever they hold."""
    if "mask" not in subject.batch:
        raise LawSkipped("the batch has no mask")
    x, mask = subject.batch["x"], np.asarray(subject.batch["mask"], bool)
    mask = np.broadcast_to(mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim)), x.shape)
    if mask.all():
        raise LawSkipped("the mask of the batch hides nothing")
    return _require_no_influence(subject, ~mask, "masked elements")


def padding(subject: Subject) -> str:
    """Steps beyond the length of a sequence do not influence its evidence, whatever they hold."""
    if "length" not in subject.batch:
        raise LawSkipped("the batch has no length")
    x, length = subject.batch["x"], np.asarray(subject.batch["length"])
    beyond = np.arange(x.shape[1])[None] >= length[:, None]
    if not beyond.any():
        raise LawSkipped("no sequence of the batch is shorter than the longest")
    hidden = np.broadcast_to(beyond.reshape(*beyond.shape, *(1,) * (x.ndim - 2)), x.shape)
    return _require_no_influence(subject, hidden, "steps beyond the length")


def _require_no_influence(subject: Subject, hidden: np.ndarray, meaning: str) -> str:
    x = np.asarray(subject.batch["x"])
    if np.issubdtype(x.dtype, np.integer):
        nonsense = [subject.values[0], subject.values[-1]]
    else:
        nonsense = [np.float32(7.0), np.float32(np.nan)]
    query = Query(K, given=subject.given)
    evidence = [
        density_terms(
            subject.evidence(
                query, batch={**subject.batch, "x": jnp.asarray(np.where(hidden, value, x).astype(x.dtype))}
            )
        )
        for value in nonsense
    ]
    for value, terms in zip(nonsense, evidence, strict=True):
        for name, term in terms.items():
            advice = "replace them before they reach a network or a density"
            require_finite(term, f"{name} with {value} in {meaning}", advice)
    advice = "look at the mask in the density (True = observed) and at the input of the encoder"
    require_equal(*evidence, f"{meaning} without influence,", advice)
    return f"{int(hidden.sum())} elements"


def marginals(subject: Subject) -> str:
    """The density of the observed elements is the sum over the values of a masked one, or a mask is refused."""
    if "length" in subject.batch:
        raise LawSkipped("a sequence has a length; steps within it are not masked")
    if "mask" not in subject.batch and subject.model.bound != "exact":
        raise LawSkipped("the batch has no mask, and the density is a bound")
    if subject.values is None:
        raise LawSkipped("x is continuous")
    if len(subject.values) > 256:
        raise LawSkipped(f"an element takes {len(subject.values)} values")
    x = np.asarray(subject.batch["x"])
    element = (slice(None), *(size // 2 for size in x.shape[1:]))
    mask = np.ones(x.shape, bool)
    mask[element] = False
    query = Query(K, given=subject.given)
    try:
        masked = subject.evidence(query, batch={**subject.batch, "mask": jnp.asarray(mask)})
    except ValueError as error:
        if "mask" in subject.batch:
            raise LawFailed(f"expected rows with a mask, as the batch has, got ValueError: {error}") from error
        return "a mask is refused"
    full = {**subject.batch, "mask": jnp.ones(x.shape, bool)} if "mask" in subject.batch else dict(subject.batch)
    each = []
    for value in subject.values:
        changed = x.copy()
        changed[element] = value
        each.append(subject.evidence(query, batch={**full, "x": jnp.asarray(changed)}).log_likelihood)
    marginal = np.asarray(jax.nn.logsumexp(jnp.asarray(np.stack(each)), 0))
    advice = "a mask leaves out the factors of masked elements; an autoregressive density has to refuse it"
    require_equal(marginal, masked.log_likelihood, "log p of the observed elements", advice, 2e-4)
    return "the marginal"
