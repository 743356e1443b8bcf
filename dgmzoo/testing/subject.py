"""`Subject`: a module under test, with compiled functions and random parameters."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.model.contract import Array, Batch, Evidence, Query
from dgmzoo.model.functional import functional
from dgmzoo.model.module_tree import parts
from dgmzoo.objectives.base import Objective
from dgmzoo.testing.report import LawSkipped, leaves

K = 3  # samples of a query; neither 1 nor the number of rows
MAX_ROWS = 16
_INITIAL_ROWS = 512  # of a batch that initializes parameters
AMPLITUDES = (0.6, 0.3, 0.1, 0.0)  # of the noise that is added to initial parameters


class Subject:
    """The functions of a module, compiled once, at parameters that are random but keep every posterior wide.

    >>> from dgmzoo import MADE
    >>> Subject(MADE(hidden=(4,), shape=(3,)), {"x": jnp.ones((2, 3))}).num_rows
    2

    Raises:
      ValueError: the module has no `evidence`, or the batch has no x or fewer than two rows.
    """

    def __init__(
        self,
        module: nn.Module,
        batch: Batch,
        objective: Objective | None = None,
        key: Array | None = None,
        values: Iterable[float] | None = None,
        end: int | None = None,
    ):
        if "x" not in batch or len(batch["x"]) < 2:
            raise ValueError(f"expected a batch with x of at least 2 rows, got {jax.tree.map(np.shape, dict(batch))}")
        self.module, self.model, self.objective = module, functional(module), objective
        self.batch = {name: jnp.asarray(leaf[:MAX_ROWS]) for name, leaf in batch.items()}
        self.key = jax.random.key(0) if key is None else key
        self.values = values_of(module, self.batch) if values is None else np.asarray(list(values))
        self.end = end if end is not None else getattr(module, "end", None)
        self.num_rows = len(self.batch["x"])
        self.compiled_evidence = jax.jit(self.model.evidence)
        self.compiled_log_weight = jax.jit(lambda *arguments: self.model.evidence(*arguments)[0].log_weight)
        self.generate = jax.jit(self.model.generate, static_argnums=2) if self.model.generate else None
        self.shared: dict[str, Any] = {}
        """Results that several laws share, by name."""
        self._variables: dict[float, Any] = {}

    def keys(self, label: int) -> Array:
        """The key of one purpose."""
        return jax.random.fold_in(self.key, label)

    def evidence(self, query: Query, key: int = 3, batch: Batch | None = None, variables: Any = None) -> Evidence:
        """Evidence on the host, outside training."""
        variables = self.variables if variables is None else variables
        return jax.device_get(self.compiled_evidence(variables, batch or self.batch, self.keys(key), query)[0])

    @functools.cached_property
    def initial(self) -> Any:
        """Initial variables. The rows are repeated, because each pseudo-input of a prior starts at a row of its own."""
        most = max([_INITIAL_ROWS, *(getattr(part, "components", 0) for _, part in parts(self.module))])
        repeats = -(-most // self.num_rows)
        rows = {name: jnp.tile(leaf, (repeats, *(1,) * (leaf.ndim - 1))) for name, leaf in self.batch.items()}
        return jax.device_get(jax.jit(self.model.init)(self.keys(0), rows))

    @functools.cached_property
    def drawn(self) -> Evidence:
        """Evidence of the batch with K newly drawn samples, outside training."""
        return self.evidence(Query(K))

    @functools.cached_property
    def draws_latents(self) -> bool:
        """True if `generate` also returns samples of all latents, as `Query.given` takes them."""
        if self.generate is None or not self.drawn.latents:
            return False
        context = {name: leaf[:2] for name, leaf in self.batch.items() if name not in ("x", "mask", "length")} or None
        shapes = jax.eval_shape(
            lambda variables, key, context: self.model.generate(variables, key, 2, context),
            self.variables,
            self.key,
            context,
        )
        latents = shapes.latents
        of_values = {name: jnp.shape(leaf)[1:] for name, leaf in latents.items()}
        return of_values == {name: latent.sample.shape[2:] for name, latent in self.drawn.latents.items()} and all(
            np.array_equal(latent.value, latent.sample) for latent in self.drawn.latents.values()
        )

    @property
    def given(self) -> dict[str, np.ndarray]:
        """The samples of `drawn`."""
        return {name: latent.sample for name, latent in self.drawn.latents.items()}

    @functools.cached_property
    def variables(self) -> Any:
        """Variables prepared for evaluation, with as much noise in the parameters as leaves the evidence finite."""
        for amplitude in AMPLITUDES:
            variables = self.variables_at(amplitude)
            evidence = self.evidence(Query(K), variables=variables)
            if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(density_terms(evidence))):
                break
        return variables

    def variables_at(self, amplitude: float) -> Any:
        """Variables prepared for evaluation, with noise of this amplitude in all parameters but those of posteriors."""
        if amplitude not in self._variables:
            self._variables[amplitude] = self._prepared(self._noisy(amplitude, self.posterior_parameters))
        return self._variables[amplitude]

    @functools.cached_property
    def posterior_parameters(self) -> frozenset[str]:
        """Names of the parameters on which log q depends and log p(x, z) does not, both at given samples.

        They get no noise, and their matrices shrink, so that posteriors stay wide and near one another, and importance
        samples cover the true posterior.
        """
        variables = self._prepared(self._noisy(AMPLITUDES[0], frozenset()))
        drawn = self.evidence(Query(K), variables=variables)
        if not drawn.latents:
            return frozenset()
        query = Query(K, given={name: latent.sample for name, latent in drawn.latents.items()})
        base = self.evidence(query, variables=variables)
        names, random = set(), np.random.default_rng(2)
        for name, leaf in leaves(variables["params"]):
            noise = random.normal(0, 0.1, np.shape(leaf)).astype(leaf.dtype)
            moved = self.evidence(query, variables=_with_leaf(variables, name, np.asarray(leaf) + noise))
            if _differ(moved.log_q, base.log_q) and not _differ(moved.log_joint, base.log_joint):
                names.add(name)
        return frozenset(names)

    def _noisy(self, amplitude: float, kept: frozenset[str]) -> Any:
        random = np.random.default_rng(1)

        def add_noise(path, leaf):
            noise = random.normal(0, 1, np.shape(leaf))
            if not np.issubdtype(leaf.dtype, np.floating):
                return leaf
            if jax.tree_util.keystr(path) in kept:
                return (leaf * 0.4).astype(leaf.dtype) if np.ndim(leaf) > 1 else leaf
            inputs = np.prod(np.shape(leaf)[:-1]) if np.ndim(leaf) > 1 else 1
            return (leaf + amplitude * noise / max(1, inputs / 4) ** 0.5).astype(leaf.dtype)

        return {**self.initial, "params": jax.tree.map_with_path(add_noise, self.initial["params"])}

    def _prepared(self, variables: Any) -> Any:
        if self.model.prepare is None:
            return variables
        return jax.device_get(jax.jit(self.model.prepare)(variables, self.keys(1)))

    @functools.cached_property
    def contexts(self) -> list[dict[str, np.ndarray]]:
        """Label, context and other fields of up to two rows that differ in them; one row where the density reads none."""
        fields = {name: np.asarray(leaf) for name, leaf in self.batch.items() if name not in ("x", "mask", "length")}
        rows = [{name: leaf[i] for name, leaf in fields.items()} for i in range(self.num_rows)]
        others = [row for row in rows if any((row[name] != rows[0][name]).any() for name in row)]
        query = Query(K, given=self.given)
        exchanged = {name: jnp.roll(self.batch[name], 1, 0) for name in fields}
        likelihoods = [
            self.evidence(query, batch=batch).log_joint for batch in (self.batch, {**self.batch, **exchanged})
        ]
        return [rows[0], *others[:1]] if _differ(*likelihoods) else rows[:1]

    def rows(self, x: np.ndarray, context: Mapping[str, np.ndarray], length: np.ndarray | None = None) -> Batch:
        """Rows with these x `[N, ...]`, one context, and nothing masked but what lies beyond `length` `[N]`."""
        num, steps = x.shape[:2] if x.ndim > 1 else (len(x), 1)
        rows = {name: np.repeat(leaf[None], num, 0) for name, leaf in context.items()}
        rows["x"] = x.astype(self.batch["x"].dtype)
        lengths = np.full(num, steps) if length is None else length
        if "length" in self.batch:
            rows["length"] = lengths.astype(self.batch["length"].dtype)
        if "mask" in self.batch:
            shape = (num, *self.batch["mask"].shape[1:])
            inside = np.arange(steps)[None] < lengths[:, None]
            rows["mask"] = np.broadcast_to(inside.reshape(num, steps, *[1] * (len(shape) - 2)), shape)
        return rows

    def require_latents(self) -> None:
        """Skip the law if the module has no latents."""
        if not self.drawn.latents:
            raise LawSkipped("the module has no latents")


def density_terms(evidence: Evidence) -> dict[str, Any]:
    """The densities of an evidence `[K or 1, B]` and its KL `[K or 1, B, U]`, by name.

    >>> list(density_terms(Evidence(jnp.zeros((1, 2)))))
    ['log_likelihood']
    """
    terms = {"log_likelihood": evidence.log_likelihood}
    for name, latent in evidence.latents.items():
        terms |= {f"{name}.log_p": latent.log_p, f"{name}.log_q": latent.log_q, f"{name}.kl": latent.kl}
    return terms


def values_of(module: nn.Module, batch: Batch) -> np.ndarray | None:
    """Values that an element of x can take: those of the module's likelihood, else inferred from x; None: real numbers.

    >>> from dgmzoo import VAE
    >>> values_of(VAE(), {"x": np.zeros(3)}).tolist()
    [0.0, 1.0]
    """
    for _, part in parts(module):
        if isinstance(part, Likelihood):
            if part.values is not None:
                return np.asarray(part.values)
            if not part.discrete:
                return None
    x = np.asarray(batch["x"])
    if "mask" in batch:  # elements that are not observed may hold anything
        mask = np.asarray(batch["mask"], bool)
        x = x[np.broadcast_to(mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim)), x.shape)]
    if np.issubdtype(x.dtype, np.integer):
        return np.arange(max(2, int(x.max(initial=0)) + 1))
    return np.array([0.0, 1.0]) if np.isin(x, (0, 1)).all() else None


def _with_leaf(variables: Any, name: str, value: np.ndarray) -> Any:
    def replace(path, leaf):
        return value if jax.tree_util.keystr(path) == name else leaf

    return {**variables, "params": jax.tree.map_with_path(replace, variables["params"])}


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    return not np.array_equal(a, b, equal_nan=True)
