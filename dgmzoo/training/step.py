"""One training step, as a pure function of state and rows."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from dgmzoo.model.contract import Batch, Model, Variables
from dgmzoo.objectives.base import Objective
from dgmzoo.reparam.collectives import DEVICES, has_device_axis
from dgmzoo.reparam.fast_threefry import fast_key
from dgmzoo.reparam.ops import relaxed_promotion

LOCAL = "local"  # the collection of which every device has its own (persistent chains)

Metrics = dict[str, jax.Array]
Observe = Callable[[chex.PRNGKey, Mapping[str, jax.Array]], Batch]
Step = Callable[["State", Mapping[str, jax.Array]], tuple["State", Metrics]]


class State(NamedTuple):
    """All that evolves in training. The position in the data is `step` alone."""

    step: jax.Array  # []
    key: chex.PRNGKey  # []
    variables: dict[str, Any]  # "params" and the mutable collections
    opt_state: optax.OptState
    ema: Any  # moving average of "params", or None


def make_init(model: Model, objective: Objective, optimizer: optax.GradientTransformation, observe: Observe, ema: bool):
    """`init(key, rows) -> State`, pure."""

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
    """`step(state, rows) -> (state, metrics)`, pure; reduces over the device axis where one is bound.

    Args:
      accumulate: parts in which the batch is worked off, one after the other; gradients and metrics are their means, and
        the entry's state passes from part to part.
    """

    def gradient_of(params, collections, batch, key, step):
        def loss(params):
            return objective(model, {**collections, "params": params}, batch, key, step, num_data)

        (_, (metrics, updates)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return gradient, metrics, {**collections, **updates}

    def in_parts(params, collections, batch, key, step):
        def one(carry, at):
            total, collections = carry
            i, part = at
            gradient, metrics, collections = gradient_of(params, collections, part, jax.random.fold_in(key, i), step)
            return (jax.tree.map(jnp.add, total, gradient), collections), metrics

        parts = jax.tree.map(lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), batch)
        start = (jax.tree.map(jnp.zeros_like, params), collections)
        (total, collections), metrics = jax.lax.scan(one, start, (jnp.arange(accumulate), parts))
        mean = jax.tree.map(lambda leaf: leaf / accumulate, total)
        return mean, jax.tree.map(lambda leaf: leaf.mean(0), metrics), collections

    def step(state: State, rows: Mapping[str, jax.Array]) -> tuple[State, Metrics]:
        device = jax.lax.axis_index(DEVICES) if has_device_axis() else 0
        key = fast_key(jax.random.fold_in(jax.random.fold_in(state.key, state.step), device))
        observe_key, model_key = jax.random.split(key)
        batch = observe(observe_key, rows)
        params = state.variables["params"]
        collections = {name: value for name, value in state.variables.items() if name != "params"}
        work = gradient_of if accumulate == 1 else in_parts
        gradient, metrics, collections = work(params, collections, batch, model_key, state.step)
        if has_device_axis():
            gradient, metrics = jax.lax.pmean((gradient, metrics), DEVICES)
        with relaxed_promotion():
            metrics["grad_norm"] = optax.tree.norm(gradient)
            change, opt_state = optimizer.update(gradient, state.opt_state, params)
            params = optax.apply_updates(params, change)
        average = None if ema is None else _average(state.ema, params, state.step, ema)
        return State(state.step + 1, state.key, {**collections, "params": params}, opt_state, average), metrics

    return step


def evaluation_variables(state: State) -> Variables:
    """What is evaluated: the moving average of the parameters where there is one, and one device's local state."""
    variables = dict(state.variables)
    if state.ema is not None:
        variables["params"] = state.ema
    return variables


def _average(average, params, step, decay):
    # Early on the average would mostly remember the random start, so the window grows with the step.
    rate = jnp.maximum(1 - decay, 9.0 / (step.astype(jnp.float32) + 10.0))
    return jax.tree.map(lambda mean, new: mean + rate.astype(new.dtype) * (new - mean), average, params)


def _merge(model: Variables, objective: Variables) -> dict[str, Any]:
    merged = dict(model)
    for collection, tree in objective.items():
        mine = merged.get(collection, {})
        if both := set(mine) & set(tree):
            raise ValueError(
                f"expected names {sorted(both)} in {collection!r} to be free for the objective, got a clash"
            )
        merged[collection] = {**mine, **tree}
    return merged
