"""The same step on one device (`jit`) or several (`pmap`): state replicated, rows spread, buffers donated."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dgmzoo.reparam.reduce import DEVICES
from dgmzoo.training.step import LOCAL, State, Step

Dispatch = Callable  # (state, rows, indices [n, B]) -> (state, metrics {name: [n]})


def compile_dispatch(step: Step, devices: Sequence[jax.Device], streamed: bool = False, num_seeds: int = 1) -> Dispatch:
    """A function that runs one step for each row of `indices`.

    It is called as `(state, rows, indices)`: `rows {name: [N, ...]}` the data on the device and `indices [n, B]`
    into them; the state's buffers are donated. One program is compiled for each n.

    Args:
      streamed: rows come gathered from the host, `{name: [n, B, ...]}`, and indices are not looked at.
      num_seeds: with S > 1, states of S seeds are stacked, and so are their batches: `[n, S, B]`.
    """
    if num_seeds > 1:
        axes = State(step=None, key=0, variables=0, opt_state=0, ema=0)
        step = jax.vmap(step, in_axes=(axes, 0), out_axes=(axes, 0))

    def run(state: State, rows, indices):
        def one(state, at):
            index, gathered = at
            batch = gathered if streamed else jax.tree.map(lambda leaf: _take(leaf, index), rows)
            return step(state, batch)

        per_step = (indices, rows if streamed else None)
        if indices.shape[0] == 1:  # no loop: XLA's CPU convolutions are slow inside one
            state, metrics = one(state, jax.tree.map(lambda leaf: leaf[0], per_step))
            return state, jax.tree.map(lambda leaf: leaf[None], metrics)
        return jax.lax.scan(one, state, per_step)

    if len(devices) == 1:
        return jax.jit(run, donate_argnums=0)

    axis = 1 if num_seeds == 1 else 2  # of the examples

    def spread(leaf):  # [n, (S,) B, ...] to [n, (S,) devices, B / devices, ...]
        return leaf.reshape(*leaf.shape[:axis], len(devices), -1, *leaf.shape[axis + 1 :])

    mapped = None

    def dispatch(state, rows, indices):
        nonlocal mapped
        if mapped is None:
            axes = state_axes(state)
            in_axes, out_axes = (axes, axis if streamed else None, axis), (axes, None)
            mapped = jax.pmap(run, DEVICES, in_axes=in_axes, out_axes=out_axes, devices=devices, donate_argnums=0)
        return mapped(state, jax.tree.map(spread, rows) if streamed else rows, spread(indices))

    return dispatch


def _take(leaf: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of `leaf [N, ...]`, gathered flat: compiled for CPU, slices with short last axes take six times as long."""
    return jnp.take(leaf.reshape(len(leaf), -1), index, 0).reshape(*index.shape, *leaf.shape[1:])


def state_axes(state: State) -> State:
    """0 where every device has its own, None where all have the same."""
    variables = {name: 0 if name == LOCAL else None for name in state.variables}
    return State(step=None, key=None, variables=variables, opt_state=None, ema=None)


def init_on(init: Callable, key, rows, devices: Sequence[jax.Device]) -> State:
    """A fresh state; the local collection, where there is one, is drawn once for each of several devices."""
    state = jax.jit(init)(key, rows)
    if len(devices) > 1 and LOCAL in state.variables:
        keys = jax.random.split(jax.random.fold_in(key, 1), len(devices))
        local = jax.jit(jax.vmap(lambda k: init(k, rows).variables[LOCAL]))(keys)
        state.variables[LOCAL] = local
    return place(state, devices)


def place(tree, devices: Sequence[jax.Device]):
    """Copies of the leaves on all devices; of a state's local collection each device gets its own part."""

    def put(leaves, sharding):
        # Placed on several devices, an array would stay the buffer of the first, `may_alias=False` or not.
        own = jax.tree.map(lambda leaf: jnp.copy(leaf) if isinstance(leaf, jax.Array) else leaf, leaves)
        return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding, may_alias=False), own)

    if len(devices) == 1:
        return put(tree, devices[0])
    mesh = Mesh(np.array(devices), (DEVICES,))
    placed = put(tree, NamedSharding(mesh, PartitionSpec()))
    if isinstance(tree, State) and LOCAL in tree.variables:
        placed.variables[LOCAL] = put(tree.variables[LOCAL], NamedSharding(mesh, PartitionSpec(DEVICES)))
    return placed


def from_one_device(variables):
    """Variables as one device has them: its copy of what is replicated, the first of what is local."""
    one = {name: tree for name, tree in variables.items() if name != LOCAL}
    one = jax.tree.map(lambda leaf: leaf.addressable_data(0), one)
    if LOCAL in variables:
        one[LOCAL] = jax.tree.map(lambda leaf: jnp.asarray(jax.device_get(leaf)[0]), variables[LOCAL])
    return one


def stacked_shapes(state: State, num_devices: int) -> State:
    """The shapes of a state on several devices, from those on one."""
    if num_devices == 1 or LOCAL not in state.variables:
        return state
    local = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num_devices, *leaf.shape), leaf.dtype), state.variables[LOCAL]
    )
    return state._replace(variables={**state.variables, LOCAL: local})


def stack_seeds(states: Sequence[State], devices: Sequence[jax.Device]) -> State:
    """The states of several seeds, which share their step, as one; a single state as it is."""
    if len(states) == 1:
        return states[0]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state._replace(step=None) for state in states))
    if len(devices) > 1 and LOCAL in stacked.variables:  # devices first, then seeds
        stacked.variables[LOCAL] = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), stacked.variables[LOCAL])
    return place(stacked._replace(step=states[0].step), devices)


def one_seed(state: State, i: int, num_seeds: int, num_devices: int) -> State:
    """The state of one of several seeds."""
    if num_seeds == 1:
        return state
    one = jax.tree.map(lambda leaf: leaf[i], state._replace(step=None))
    if num_devices > 1 and LOCAL in state.variables:
        one.variables[LOCAL] = jax.tree.map(lambda leaf: leaf[:, i], state.variables[LOCAL])
    return one._replace(step=state.step)
