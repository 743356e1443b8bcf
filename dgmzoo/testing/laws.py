"""Property tests of a model, such as the shapes of its output and the independence of the examples in a batch."""

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Query
from dgmzoo.model.precision import in_precision
from dgmzoo.testing.report import LawFailed, LawSkipped, leaves, require, require_equal, require_finite
from dgmzoo.testing.subject import K, Subject, density_terms
from dgmzoo.testing.training_laws import training_pair

_OTHER_KEY = 4


def shapes(subject: Subject) -> str:
    """Evidence has the shapes of the contract, is finite, and its densities are at least float32."""
    evidence, b = subject.drawn, subject.num_rows

    def leads(name, leaf, samples):
        expected = f"[{' or '.join(map(str, samples))}, {b}, ...]"
        is_right = np.ndim(leaf) >= 2 and leaf.shape[0] in samples and leaf.shape[1] == b
        require(is_right, f"expected {name} of shape {expected} (K = {K}, B = {b}), got {np.shape(leaf)}")

    for name, latent in evidence.latents.items():
        for field in ("value", "sample", "log_p", "log_q"):
            leads(f"latents[{name!r}].{field}", getattr(latent, field), (K,))
        for parameter, leaf in latent.q.items():
            leads(f"latents[{name!r}].q[{parameter!r}]", leaf, (1, K))
    for name, leaf in evidence.parameters.items():
        leads(f"parameters[{name!r}]", leaf, (1, K))
    require(np.shape(evidence.weight_kl) == (), f"expected weight_kl of shape (), got {np.shape(evidence.weight_kl)}")
    for name, leaf in leaves(evidence):
        advice = "look at logarithms and divisions, and at collections that `prepare` should fill"
        require_finite(leaf, f"evidence{name}", advice)
    low = in_precision(subject.model, jnp.dtype("bfloat16"))
    for precision, model in (("float32", subject.model), ("bfloat16", low)):
        of_shapes, _ = jax.eval_shape(model.evidence, subject.variables, subject.batch, subject.key, Query(K))
        for name, leaf in density_terms(of_shapes).items():
            require(
                jnp.finfo(leaf.dtype).bits >= 32 if jnp.issubdtype(leaf.dtype, jnp.floating) else False,
                f"expected {name} of at least float32 with networks in {precision}, got {leaf.dtype}; cast the input of "
                "the head up, before the density is computed",
            )
    return f"K = {K}, B = {b}"


def state(subject: Subject) -> str:
    """Evaluation changes no collection; training keeps their names, shapes and dtypes."""
    query = Query(K)
    before = density_terms(subject.drawn)
    require_equal(before, density_terms(subject.evidence(query)), "the same evidence again", "look for state", 0.0)
    _, updates = subject.compiled_evidence(subject.variables, subject.batch, subject.key, query)
    require(not updates, f"expected no updates outside training, got {sorted(updates)}; check `query.train` first")
    _, updates = jax.eval_shape(subject.model.evidence, subject.variables, subject.batch, subject.key, Query(K, True))
    for collection, tree in updates.items():
        old, new = (
            {
                name: (jnp.shape(leaf), jnp.asarray(leaf).dtype if not hasattr(leaf, "dtype") else leaf.dtype)
                for name, leaf in leaves(part)
            }
            for part in (subject.variables[collection], tree)
        )
        require(old == new, f"expected training to keep the arrays of {collection!r}, {old}, got {new}")
    return ", ".join(updates) or "no collections"


def given_samples(subject: Subject) -> str:
    """Giving the samples of an evidence back reproduces it, under another key and for other samples too."""
    subject.require_latents()
    drawn, given = subject.drawn, subject.given
    again = subject.evidence(Query(K, given=given), _OTHER_KEY)
    for name, sample in given.items():
        _returned(name, sample, again)
    advice = "the sample in `query.given` is not used everywhere, or the evidence draws noise beside the latents"
    require_equal(density_terms(drawn), density_terms(again), "given samples to reproduce", advice)
    # Samples of other rows lie in the support whatever it is.
    altered = {name: np.roll(sample, 1, axis=1) for name, sample in given.items()}
    one, two = (subject.evidence(Query(K, given=altered), key) for key in (3, _OTHER_KEY))
    for name, sample in altered.items():
        _returned(name, sample, one)
    require_equal(density_terms(one), density_terms(two), "altered samples to give under two keys the same", advice)
    moved = any((np.asarray(altered[name]) != given[name]).any() for name in given)
    if moved and one.parameters:  # the smallest change shows, so a nearly uniform density passes
        same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(drawn), jax.tree.leaves(one), strict=True)]
        samples = 2 * len(given)  # sample and value of each layer
        require(same.count(False) > samples, "expected altered samples to change the evidence, got the same; " + advice)
    if len(given) > 1:
        name = next(iter(given))
        partial = subject.evidence(Query(K, given={name: altered[name]}), _OTHER_KEY)
        _returned(name, altered[name], partial)
    return ", ".join(given)


def _returned(name, sample, evidence):
    if not np.array_equal(evidence.latents[name].sample, sample):
        raise LawFailed(
            f"expected the sample given for {name!r} to be returned as it was given, got another; take "
            f"`query.given[{name!r}]` where it is there instead of drawing"
        )


def bad_input(subject: Subject) -> str:
    """Given samples of a wrong shape or of an unknown layer, and x of another shape than the module's, are refused."""

    def require_refused(meaning, errors, batch, query):
        try:
            jax.eval_shape(subject.model.evidence, subject.variables, batch, subject.key, query)
        except errors:
            return
        except Exception as error:
            raise LawFailed(f"expected ValueError for {meaning}, got {type(error).__name__}: {error}") from error
        raise LawFailed(f"expected {meaning} to be refused with ValueError, got evidence; check the shape")

    shape = (K, subject.num_rows, 1)
    require_refused(
        "a given sample of an unknown layer",
        ValueError,
        subject.batch,
        Query(K, given={"nowhere": np.zeros(shape, np.float32)}),
    )
    for name, sample in subject.given.items():
        wrong = [sample[: K - 1]]
        if sample.ndim > 2 and sample.shape[-1] > 1:
            wrong.append(sample[..., :1])  # would broadcast
        for other in wrong:
            meaning = f"a sample of shape {other.shape} given for {name!r} of shape {sample.shape}"
            require_refused(meaning, ValueError, subject.batch, Query(K, given={**subject.given, name: other}))
    if getattr(subject.module, "shape", None) is not None:
        x = np.zeros((subject.num_rows, *(size + 1 for size in subject.batch["x"].shape[1:])), subject.batch["x"].dtype)
        batch = {name: leaf for name, leaf in subject.batch.items() if name not in ("mask", "length")}
        require_refused(f"x of shape {x.shape[1:]}", Exception, {**batch, "x": x}, Query(K))
    return ""


def examples(subject: Subject) -> str:
    """The evidence of an example does not depend on the other examples of its batch."""
    half = subject.num_rows // 2
    others = {name: leaf.at[half:].set(jnp.roll(leaf, half + 1, 0)[half:]) for name, leaf in subject.batch.items()}
    if all((others[name] == leaf).all() for name, leaf in subject.batch.items()):
        x = subject.batch["x"]
        others["x"] = others["x"].at[half:].set(1 - x[half:]) if subject.values is None else x.at[half:].set(x[0])
    has_state = set(subject.variables) != {"params"}
    evaluated = [subject.evidence(Query(K, given=subject.given), batch=batch) for batch in (subject.batch, others)]
    pairs = [("evaluation", evaluated)]
    if not has_state:
        pairs.append(("training", [training_pair(subject, batch)[0][1] for batch in (subject.batch, others)]))
    for mode, evidence in pairs:
        first, second = (jax.tree.map(lambda leaf: leaf[:, :half], density_terms(each)) for each in evidence)
        advice = f"in {mode} the rows of a batch mix; look at reductions and reshapes over the axis B"
        require_equal(first, second, "the evidence of unchanged rows to stay", advice)
    return "in evaluation only, because training uses the state" if has_state else ""


def compilation(subject: Subject) -> str:
    """The compiled evidence equals that of the module run operation by operation."""
    query = Query(K)
    arrays = jax.tree.map(jnp.asarray, (subject.variables, subject.batch))
    eager, _ = subject.model.evidence(*arrays, subject.keys(3), query)
    advice = "look for Python values, numpy calls and side effects that tracing fixes"
    require_equal(
        density_terms(eager), density_terms(subject.drawn), "compiled evidence to equal the eager one,", advice
    )
    return ""


def divergence(subject: Subject) -> str:
    """The mean KL of the samples is the mean of log q - log p over them."""
    subject.require_latents()
    if subject.model.bound is None:
        raise LawSkipped("the module has no bound on log p(x)")
    kls, ratios = [], []
    for i in range(400):  # queries that are compiled already
        latents = subject.evidence(Query(K), 1000 + i).latents.values()
        kl = sum(np.asarray(latent.kl, np.float64).sum(-1) for latent in latents)  # [K or 1, B]
        kls.append(np.broadcast_to(kl, (K, subject.num_rows)))
        ratios.append(sum(np.asarray(latent.log_q, np.float64) - latent.log_p for latent in latents))
    kl, ratio = np.concatenate(kls), np.concatenate(ratios)  # [400 K, B]
    difference = ratio - kl
    error = difference.std(0, ddof=1) / len(difference) ** 0.5
    z = np.abs(difference.mean(0)) / (error + 1e-4)
    require(
        z.max() < 6,
        f"expected a mean kl of {ratio.mean():.5g} nats, as log q - log p has over samples, got {kl.mean():.5g}; "
        "look at the closed form of the KL",
    )
    return f"largest deviation {z.max():.2g} standard errors"
