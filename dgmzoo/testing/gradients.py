"""`unbiased`: test that the mean gradient of an objective equals the exact gradient of its bound.

The exact bound is a sum over all samples of discrete latents, or an integral over a grid of one or two continuous ones.
Both go through `Query.given`, so nothing but the contract is used.
"""

import dataclasses
import functools
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from scipy import stats

from dgmzoo.model.contract import Array, Batch, Model, Query
from dgmzoo.model.functional import functional
from dgmzoo.model.module_tree import has_random_weights
from dgmzoo.objectives.base import Objective

MAX_NODES = 20_000  # tuples of K samples that are summed
_GRID = {1: 601, 2: 121}  # nodes per axis
_REACH = 8.0  # standard deviations of the posterior's samples


@dataclasses.dataclass(frozen=True)
class GradientComparison:
    """The mean gradient of an objective beside the exact one.

    >>> comparison = GradientComparison(1.0, 1.0, 2.5, 3.9, 100, 2000)
    >>> comparison.is_unbiased
    True
    """

    scale: float
    """Coefficient of the mean gradient on the exact gradient; 1 for an unbiased one."""
    cosine: float
    """Cosine of the angle between both; 1 for an unbiased gradient or a multiple of it, up to the noise of the mean."""
    largest_z: float
    """Largest difference of an element from the exact one, in standard errors of its mean."""
    bound: float
    """Bonferroni bound of `largest_z`: an unbiased gradient exceeds it in one comparison of a thousand."""
    num_elements: int
    """Elements of the gradient."""
    num_keys: int
    """Gradients in the mean."""

    @property
    def is_unbiased(self) -> bool:
        """True if no element differs by more than its noise explains."""
        return self.largest_z <= self.bound

    def __str__(self) -> str:
        return (
            f"{'unbiased' if self.is_unbiased else 'biased'}: scale {self.scale:.4f}, cosine {self.cosine:.4f}, "
            f"largest z {self.largest_z:.2f} (bound {self.bound:.2f}) of {self.num_elements} elements, "
            f"{self.num_keys} gradients"
        )


def unbiased(
    objective: Objective,
    module: nn.Module,
    batch: Batch,
    *,
    key: Array | None = None,
    variables: Any = None,
    num_keys: int = 4000,
    step: int = 0,
) -> GradientComparison:
    """Compare the mean gradient of an objective with the exact gradient of its bound.

    The bound is the mean over the batch of `E_q log 1/K sum_k p(x, z_k) / q(z_k | x)` with K `objective.bound_samples`,
    less the mean of `aux`; an objective that weighs the KL otherwise (beta, warm-up, free bits) is biased for it. Only the
    parameters of the module are compared, not those of the objective.

    Args:
      batch: few rows, such as two.
      variables: of the module; None: initial values with normal noise of scale 0.3 in the parameters.
      num_keys: gradients in the mean.
      step: training step, for annealed quantities.

    Raises:
      ValueError: the samples can neither be enumerated (discrete latents with at most 20 000 tuples of K samples) nor
        integrated (K times the number of continuous latents at most 2), or the weights are random.

    >>> from dgmzoo import ELBO, IWAE, VAE, MLP
    >>> vae = VAE(latent_dim=1, encoder=MLP((2,)), decoder=MLP((2,)), shape=(2,))
    >>> rows = {"x": jnp.array([[0.0, 1.0], [1.0, 1.0]])}
    >>> unbiased(ELBO(), vae, rows, num_keys=500).is_unbiased
    True
    """
    if has_random_weights(module):
        raise ValueError(
            "expected plain weights to compare gradients, got random ones, whose values are not enumerated"
        )
    key = jax.random.key(0) if key is None else key
    model, batch = functional(module), jax.tree.map(jnp.asarray, dict(batch))
    if variables is None:
        variables = _noisy(jax.jit(model.init)(jax.random.fold_in(key, 0), batch))
    variables = jax.tree.map(jnp.asarray, dict(variables))
    nodes, log_weights = _nodes(model, variables, batch, key, objective.bound_samples)
    exact = _exact_gradient(model, variables, batch, key, step, objective.bound_samples, nodes, log_weights)
    mean, error = _mean_gradient(objective, model, variables, batch, key, step, num_keys)
    return _compare(np.asarray(exact, np.float64), mean, error, num_keys)


def _compare(exact: np.ndarray, mean: np.ndarray, error: np.ndarray, num_keys: int) -> GradientComparison:
    rounding = 2e-5 * max(np.abs(exact).max(), 1e-3)
    z = np.abs(mean - exact) / np.hypot(error, rounding)
    size = np.linalg.norm(exact) * np.linalg.norm(mean)
    return GradientComparison(
        scale=float(mean @ exact / (exact @ exact)) if exact.any() else math.nan,
        cosine=float(mean @ exact / size) if size else math.nan,
        largest_z=float(z.max()),
        bound=float(stats.norm.isf(0.0005 / len(z))),
        num_elements=len(z),
        num_keys=num_keys,
    )


def _noisy(variables):
    random = np.random.default_rng(0)

    def add_noise(leaf):
        return (leaf + 0.3 * random.normal(size=leaf.shape)).astype(leaf.dtype)

    return {**variables, "params": jax.tree.map(add_noise, variables["params"])}


def _mean_gradient(objective, model, variables, batch, key, step, num_keys) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the gradient of the loss over keys, and its standard error, flat."""
    collections = {name: value for name, value in variables.items() if name != "params"}
    own = objective.init(jax.random.fold_in(key, 1), batch)
    for name in set(own) - {"params"}:
        collections[name] = {**collections.get(name, {}), **own[name]}
    step = jnp.asarray(step, jnp.int32)

    def gradient(key):
        def loss(params):
            everything = {**collections, "params": {**params, **own.get("params", {})}}
            return objective(model, everything, batch, key, step, len(batch["x"]))[0]

        return jax.flatten_util.ravel_pytree(jax.grad(loss)(variables["params"]))[0]

    size = min(100, num_keys)
    compiled = jax.jit(jax.vmap(gradient))
    parts = [
        np.asarray(compiled(jax.random.split(jax.random.fold_in(key, 10 + i), size)), np.float64)
        for i in range(-(-num_keys // size))
    ]
    gradients = np.concatenate(parts)
    return gradients.mean(0), gradients.std(0, ddof=1) / math.sqrt(len(gradients))


def _exact_gradient(model, variables, batch, key, step, num, nodes, log_weights) -> Array:
    """Gradient of the loss of the exact bound with `num` samples, flat."""
    collections = {name: value for name, value in variables.items() if name != "params"}
    tuples = jnp.asarray(list(itertools.product(range(len(log_weights)), repeat=num)))  # [C^K, K]

    def loss(params):
        def evidence(node):
            given = {name: value[None] for name, value in node.items()}
            query = Query(1, train=True, step=step, given=given)
            of_node, _ = model.evidence({**collections, "params": params}, batch, key, query)
            aux = sum(of_node.aux.values(), jnp.zeros_like(of_node.log_weight[0]))
            return of_node.log_weight[0], of_node.log_q[0], aux

        log_weight, log_q, aux = jax.lax.map(evidence, nodes, batch_size=256)  # [C, B]
        log_mass = log_q + log_weights  # [C, B]
        mass = jnp.exp(log_mass[tuples].sum(1))  # [C^K, B]
        bound = jax.nn.logsumexp(log_weight[tuples], 1) - math.log(num)
        finite = jnp.where(mass > 0, bound, jnp.zeros_like(bound))
        return -(mass * finite).sum(0).mean() + (jnp.exp(log_mass) * aux).sum(0).mean()

    return jax.flatten_util.ravel_pytree(jax.jit(jax.grad(loss))(variables["params"]))[0]


def _nodes(model: Model, variables, batch, key, num: int) -> tuple[dict[str, Array], Array]:
    """Samples `{layer: [C, B, ...]}` over which q is summed, and the logarithm of their quadrature weights `[C, B]`."""
    compiled = jax.jit(functools.partial(model.evidence, variables, batch))
    drawn, _ = jax.device_get(compiled(jax.random.fold_in(key, 2), Query(200)))
    if not drawn.latents:
        raise ValueError("expected a module with latents to compare gradients, got one without")
    samples = {name: np.asarray(latent.sample) for name, latent in drawn.latents.items()}
    units = {name: _choices(sample) for name, sample in samples.items()}
    if all(choices is not None for choices in units.values()):
        nodes, log_weights = _enumerated(samples, units, num)
    else:
        nodes, log_weights = _grid(samples, num)
    given_query = jax.jit(
        lambda given: model.evidence(variables, batch, key, Query(len(log_weights), given=given))[0].log_q
    )
    mass = np.exp(np.asarray(given_query(nodes), np.float64) + log_weights).sum(0)
    if np.abs(mass - 1).max() > 2e-3:
        raise ValueError(
            "expected samples that can be enumerated (bits, whole numbers, one-hot vectors) or integrated (one or two "
            f"continuous latents with a smooth density), got samples over which q sums to {mass.round(4).tolist()}"
        )
    return nodes, jnp.asarray(log_weights, jnp.float32)


def _choices(sample: np.ndarray) -> np.ndarray | None:
    """Values `[V, ...]` that one unit of a sample takes, for each unit alike; None for a continuous sample."""
    flat = sample.reshape(-1, sample.shape[-1]) if sample.ndim > 3 else None
    if flat is not None and np.isin(flat, (0, 1)).all() and (flat.sum(1) == 1).all():
        return np.eye(sample.shape[-1], dtype=sample.dtype)  # one-hot vectors
    values = np.unique(sample)
    if len(values) > 64:
        return None
    if np.array_equal(values, values.astype(int)) and values.min() >= 0:  # every bit, and every whole number between
        return np.arange(max(2, int(values.max()) + 1)).astype(sample.dtype)
    return values


def _enumerated(samples, units, num) -> tuple[dict[str, np.ndarray], np.ndarray]:
    sizes = {name: math.prod(sample.shape[2:]) // math.prod(units[name].shape[1:]) for name, sample in samples.items()}
    total = math.prod(len(units[name]) ** size for name, size in sizes.items())
    if total**num > MAX_NODES:
        raise ValueError(f"expected at most {MAX_NODES} tuples of {num} samples, got {total}^{num}; use fewer units")
    rows = {
        name: np.array(list(itertools.product(range(len(units[name])), repeat=size))) for name, size in sizes.items()
    }
    numbers = np.array(list(itertools.product(*(range(len(each)) for each in rows.values()))))
    nodes = {}
    for column, (name, each) in zip(numbers.T, rows.items(), strict=True):
        shape, rows_of_batch = samples[name].shape[2:], samples[name].shape[1]
        values = units[name][each[column]].reshape(total, 1, *shape)
        nodes[name] = np.repeat(values, rows_of_batch, 1)
    return nodes, np.zeros((total, next(iter(samples.values())).shape[1]))


def _grid(samples, num) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A grid over each row's samples, as wide as eight of their standard deviations."""
    sizes = {name: math.prod(sample.shape[2:]) for name, sample in samples.items()}
    dims = sum(sizes.values())
    if dims * num > 2 or any(np.issubdtype(sample.dtype, np.integer) for sample in samples.values()):
        raise ValueError(
            f"expected discrete latents, or K times the number of continuous latents of at most 2, got {dims} and K = {num}"
        )
    rows = next(iter(samples.values())).shape[1]
    flat = np.concatenate([sample.reshape(*sample.shape[:2], -1) for sample in samples.values()], -1)  # [K, B, D]
    axis = np.linspace(-_REACH, _REACH, _GRID[dims * num])
    unit = np.stack(np.meshgrid(*[axis] * dims, indexing="ij"), -1).reshape(-1, 1, dims)
    scale = flat.std(0)
    points = (flat.mean(0) + unit * scale).astype(flat.dtype)  # [C, B, D]
    log_weights = np.broadcast_to(np.log((axis[1] - axis[0]) * scale).sum(-1), (len(points), rows))
    starts = np.cumsum([0, *sizes.values()])
    return {
        name: points[:, :, start : start + size].reshape(-1, *samples[name].shape[1:])
        for (name, size), start in zip(sizes.items(), starts, strict=False)
    }, log_weights
