"""`make_step`: make the function of one training step; `make_init`: make the function that creates the initial state."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from dgmzoo.model.batch_norm import synchronized_batch_norm
from dgmzoo.model.collections import LOCAL as LOCAL
from dgmzoo.model.collections import add_declaration, check_declared, reduce_over_devices
from dgmzoo.model.contract import Batch, Model, Variables
from dgmzoo.objectives.base import Objective
from dgmzoo.reparam.collectives import DEVICES, has_device_axis
from dgmzoo.reparam.fast_threefry import fast_key
from dgmzoo.reparam.ops import relaxed_promotion

Metrics = dict[str, jax.Array]
Observe = Callable[[chex.PRNGKey, Mapping[str, jax.Array]], Batch]
Step = Callable[["State", Mapping[str, jax.Array]], tuple["State", Metrics]]


class State(NamedTuple):
    """Everything that changes in training. The position in the data is `step` alone."""

    step: jax.Array  # []
    key: chex.PRNGKey  # []
    variables: dict[str, Any]  # "params" and the mutable collections
    opt_state: optax.OptState
    ema: Any  # moving average of "params", or None


def make_init(model: Model, objective: Objective, optimizer: optax.GradientTransformation, observe: Observe, ema: bool):
    """The pure function `init(key, rows) -> State`.

    Args:
      observe: `(key, rows) -> batch`, the encoding of rows (binarization, dequantization).
      ema: keep a moving average of the parameters.

    `make_step` has an example.
    """

    def init(key: chex.PRNGKey, rows: Mapping[str, jax.Array]) -> State:
        model_key, objective_key, observe_key, state_key = jax.random.split(key, 4)
        batch = observe(observe_key, rows)
        variables = _merge(model.init(model_key, batch), objective.init(objective_key, batch))
        with relaxed_promotion():
            opt_state = optimizer.init(variables["params"])
        average = jax.tree.map(jnp.copy, variables["params"]) if ema else None
        return State(jnp.zeros((), jnp.int32), state_key, variables, opt_state, average)

    return init


def make_step(
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    observe: Observe,
    num_data: int,
    ema: float | None,
    accumulate: int = 1,
) -> Step:
    """The pure function `step(state, rows) -> (state, metrics)`.

    Under `pmap`, gradients and metrics are averaged, and the mutable collections are reduced as they declare
    (`dgmzoo.model.collections`).

    Args:
      num_data: number of training rows, which scales the KL of random weights.
      ema: decay of the moving average of the parameters; None: no average.
      accumulate: number of micro-batches, computed in sequence. Gradients and metrics are averaged over them; the mutable
        collections pass from one to the next, and are reduced over devices after the last one.

    >>> from dgmzoo.model.functional import functional
    >>> from dgmzoo.objectives.elbo import ELBO
    >>> from dgmzoo.zoo.ddnn.made import MADE
    >>> model, observe = functional(MADE(hidden=(5,), shape=(3,))), lambda key, rows: rows
    >>> rows, optimizer = {"x": jnp.ones((4, 3))}, optax.sgd(0.1)
    >>> state = make_init(model, ELBO(), optimizer, observe, ema=False)(jax.random.key(0), rows)
    >>> state, metrics = make_step(model, ELBO(), optimizer, observe, num_data=4, ema=None)(state, rows)
    >>> int(state.step), metrics["loss"].shape
    (1, ())

    Raises:
      ValueError: when traced, a collection changes whose reduction over devices is not declared.
    """
    reductions = dict(model.reductions)
    add_declaration(reductions, type(objective).__name__, objective.collections)

    def gradient_of(params, collections, batch, key, step):
        def loss(params):
            value, (metrics, updates) = objective(model, {**collections, "params": params}, batch, key, step, num_data)
            check_declared(type(objective).__name__, reductions, collections, updates)
            return value, (metrics, updates)

        (_, (metrics, updates)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return gradient, metrics, {**collections, **updates}

    def accumulated_gradient(params, collections, batch, key, step):
        def add_micro_batch(carry, inputs):
            total, collections = carry
            i, micro_batch = inputs
            micro_key = jax.random.fold_in(key, i)
            gradient, metrics, collections = gradient_of(params, collections, micro_batch, micro_key, step)
            return (jax.tree.map(jnp.add, total, gradient), collections), metrics

        micro_batches = jax.tree.map(lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), batch)
        start = (jax.tree.map(jnp.zeros_like, params), collections)
        (total, collections), metrics = jax.lax.scan(add_micro_batch, start, (jnp.arange(accumulate), micro_batches))
        mean = jax.tree.map(lambda leaf: leaf / accumulate, total)
        return mean, jax.tree.map(lambda leaf: leaf.mean(0), metrics), collections

    def step(state: State, rows: Mapping[str, jax.Array]) -> tuple[State, Metrics]:
        device = jax.lax.axis_index(DEVICES) if has_device_axis() else 0
        key = fast_key(jax.random.fold_in(jax.random.fold_in(state.key, state.step), device))
        observe_key, model_key = jax.random.split(key)
        batch = observe(observe_key, rows)
        params = state.variables["params"]
        collections = {name: value for name, value in state.variables.items() if name != "params"}
        compute = gradient_of if accumulate == 1 else accumulated_gradient
        if has_device_axis():
            with synchronized_batch_norm(DEVICES):
                gradient, metrics, after = compute(params, collections, batch, model_key, state.step)
            gradient, metrics = jax.lax.pmean((gradient, metrics), DEVICES)
            collections = reduce_over_devices(
                reductions, collections, after, _sum_over_devices, jax.lax.axis_size(DEVICES)
            )
        else:
            gradient, metrics, collections = compute(params, collections, batch, model_key, state.step)
        with relaxed_promotion():
            metrics["grad_norm"] = optax.tree.norm(gradient)
            updates, opt_state = optimizer.update(gradient, state.opt_state, params)
            params = optax.apply_updates(params, updates)
        average = None if ema is None else _average(state.ema, params, state.step, ema)
        return State(state.step + 1, state.key, {**collections, "params": params}, opt_state, average), metrics

    return step


def evaluation_variables(state: State) -> Variables:
    """The variables for evaluation: with the moving average of the parameters, if the state has one."""
    variables = dict(state.variables)
    if state.ema is not None:
        variables["params"] = state.ema
    return variables


def _sum_over_devices(tree):
    return jax.lax.psum(tree, DEVICES)


def _average(average, params, step, decay):
    # A fixed window would give the random initial values a large weight in early steps, so the window grows.
    rate = jnp.maximum(1 - decay, 9.0 / (step.astype(jnp.float32) + 10.0))
    return jax.tree.map(lambda mean, new: mean + rate.astype(new.dtype) * (new - mean), average, params)


def _merge(model: Variables, objective: Variables) -> dict[str, Any]:
    merged = dict(model)
    for collection, tree in objective.items():
        of_model = merged.get(collection, {})
        if common := set(of_model) & set(tree):
            raise ValueError(
                f"expected names of the objective's {collection!r} that the model does not use, got {sorted(common)}; "
                "rename them"
            )
        merged[collection] = {**of_model, **tree}
    return merged
