"""`compile_dispatch`: compile a loop of steps; choose devices; copy states to and from them; stack states of seeds.

On several devices the state is replicated and batches are split. The buffers of the state are donated to the step.

A list of `devices` holds devices of this process. With several processes, which must have equally many devices, `pmap`
spans the devices of all of them, ordered by process; arrays outside the step are placed on the devices of this process.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dgmzoo.evaluation.log_likelihood import local_devices
from dgmzoo.reparam.collectives import DEVICES
from dgmzoo.training.step import LOCAL, State, Step

Dispatch = Callable  # (state, rows, indices [n, B], size=None) -> (state, metrics {name: [n]})


def compile_dispatch(step: Step, devices: Sequence[jax.Device], streamed: bool = False, num_seeds: int = 1) -> Dispatch:
    """A function `(state, rows, indices, size=None) -> (state, metrics)` that runs one step for each of `size` batches.

    `rows {name: [N, ...]}` are the data on the device, and `indices [n, B]` select the batches. Only the first `size` of
    the n are used; None: all. The buffers of the state are donated. One program serves every size up to n, so that the
    size changes no bit of the result.

    Args:
      streamed: `rows {name: [n, B, ...]}` are batches gathered on the host; only the shape of `indices` is used.
      num_seeds: S > 1: states of S seeds are stacked, and the batches are `[n, S, B]`.

    Returns:
      The function; its metrics `[n]` are zeros beyond `size`.

    >>> def step(state, rows):
    ...     return state._replace(step=state.step + rows["x"].sum()), {"loss": rows["x"].mean()}
    >>> dispatch = compile_dispatch(step, jax.local_devices()[:1])
    >>> state = State(jnp.float32(0), jax.random.key(0), {}, (), None)
    >>> state, metrics = dispatch(state, {"x": jnp.array([1.0, 2.0, 4.0])}, jnp.array([[0, 1], [1, 2]]))
    >>> metrics["loss"].tolist(), float(state.step)
    ([1.5, 3.0], 9.0)
    """
    if num_seeds > 1:
        axes = State(step=None, key=0, variables=0, opt_state=0, ema=0)
        step = jax.vmap(step, in_axes=(axes, 0), out_axes=(axes, 0))

    def run(state: State, rows, indices, size):
        def one_step(state, i):
            index, gathered = jax.tree.map(lambda leaf: leaf[i], (indices, rows if streamed else None))
            batch = gathered if streamed else jax.tree.map(lambda leaf: _take(leaf, index), rows)
            return step(state, batch)

        num = indices.shape[0]
        if num == 1:  # no loop, because XLA's CPU convolutions are slow inside one
            state, metrics = one_step(state, 0)
            return state, jax.tree.map(lambda leaf: leaf[None], metrics)
        run_step = jax.jit(one_step, inline=True)  # traced once for the shapes and for the loop
        _, shapes = jax.eval_shape(run_step, state, jax.ShapeDtypeStruct((), jnp.int32))
        start = jax.tree.map(lambda leaf: jnp.zeros((num, *leaf.shape), leaf.dtype), shapes)

        def body(i, carry):
            state, metrics = carry
            state, new = run_step(state, i)
            return state, jax.tree.map(lambda leaf, value: leaf.at[i].set(value), metrics, new)

        return jax.lax.fori_loop(0, size, body, (state, start))

    if num_global(devices) == 1:
        program = jax.jit(run, donate_argnums=0)

        def on_one_device(state, rows, indices, size=None):
            return program(state, rows, indices, _size(indices, size))

        return on_one_device

    axis = 1 if num_seeds == 1 else 2  # of the examples

    def split_batch(leaf):  # [n, (S,) B, ...] to [n, (S,) devices, B / devices, ...]
        return leaf.reshape(*leaf.shape[:axis], len(devices), -1, *leaf.shape[axis + 1 :])

    def run_with_local(local, state, rows, indices, size):
        """`run`, with the local collection as an argument: with several processes `pmap` takes no axes within a dict."""
        state, metrics = run(state._replace(variables=state.variables | local), rows, indices, size)
        local, state = _split_local(state)
        return local, state, metrics

    in_axes, out_axes = (0, None, axis if streamed else None, axis, None), (0, None, None)
    all_devices = global_devices(devices)
    program = jax.pmap(
        run_with_local, DEVICES, in_axes=in_axes, out_axes=out_axes, devices=all_devices, donate_argnums=(0, 1)
    )

    def dispatch(state, rows, indices, size=None):
        size = _size(indices, size)
        rows = jax.tree.map(split_batch, rows) if streamed else rows
        local, state, metrics = _wait_for_gloo(program(*_split_local(state), rows, split_batch(indices), size))
        return state._replace(variables=state.variables | local), metrics

    return dispatch


def _size(indices: Any, size: int | None) -> np.ndarray:
    return np.asarray(indices.shape[0] if size is None else size, np.int32)


def _take(leaf: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of `leaf [N, ...]`. On CPU a gather of slices with short last axes takes six times as long as a flat one."""
    return jnp.take(leaf.reshape(len(leaf), -1), index, 0).reshape(*index.shape, *leaf.shape[1:])


def _split_local(state: State) -> tuple[dict, State]:
    local = {name: tree for name, tree in state.variables.items() if name == LOCAL}
    return local, state._replace(variables={name: tree for name, tree in state.variables.items() if name != LOCAL})


def is_slow_in_loop(step: Step, state: State, rows, device: jax.Device) -> bool:
    """True if the step has convolutions and runs on CPU, where XLA runs them 4 to 13 times slower inside a loop.

    Args:
      state, rows: arrays or their shapes.
    """
    return device.platform == "cpu" and "conv_general_dilated" in str(jax.make_jaxpr(step)(state, rows))


# Choice of devices


def choose_devices(batch_size: int) -> list[jax.Device]:
    """The largest number of local devices that divides the batch; with several processes all of them.

    >>> len(choose_devices(batch_size=1))
    1
    """
    devices = local_devices()
    if jax.process_count() > 1:
        return devices
    num = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return devices[:num]


def global_devices(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """The devices of all processes, ordered by process."""
    if jax.process_count() == 1:
        return list(devices)
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def num_global(devices: Sequence[jax.Device]) -> int:
    """Number of devices in all processes.

    >>> num_global(jax.local_devices()[:1])
    1
    """
    return len(devices) * jax.process_count()


def process_share(batch: np.ndarray) -> np.ndarray:
    """The part of `[..., B]` that this process trains on.

    >>> process_share(np.arange(4)).tolist()
    [0, 1, 2, 3]
    """
    size = batch.shape[-1] // jax.process_count()
    return batch[..., jax.process_index() * size :][..., :size]


class FlagReduction:
    """OR-reduce flags over processes; the answer arrives one call late so that no step waits for it.

    All processes get the same answer at the same step. With one process the answer is the argument, at once.

    >>> FlagReduction(jax.local_devices()[:1])(True, False)
    [True, False]
    """

    def __init__(self, devices: Sequence[jax.Device]):
        self._num_devices, self._previous = len(devices), None
        self._max = jax.pmap(
            lambda x: jax.lax.pmax(x, DEVICES), DEVICES, out_axes=None, devices=global_devices(devices)
        )

    def __call__(self, *flags: bool) -> list[bool]:
        if jax.process_count() == 1:
            return list(flags)
        own = np.tile(np.array(flags, np.int32), (self._num_devices, 1))
        reduced, self._previous = self._previous, _wait_for_gloo(self._max(own))
        return [False] * len(flags) if reduced is None else [bool(flag) for flag in np.asarray(reduced)]


def _wait_for_gloo(arrays):
    """Wait for the arrays on CPU with several processes, where concurrent programs of gloo block each other."""
    if jax.process_count() > 1 and jax.default_backend() == "cpu":
        jax.block_until_ready(arrays)
    return arrays


# States


def init_on(init: Callable, key, rows, devices: Sequence[jax.Device]) -> State:
    """A new state on the devices; a local collection is initialized by a key of its own for each of several devices."""
    state = jax.jit(init)(key, rows)
    if num_global(devices) > 1 and LOCAL in state.variables:
        keys = jax.random.split(jax.random.fold_in(key, 1), num_global(devices))
        local = jax.jit(jax.vmap(lambda k: init(k, rows).variables[LOCAL]))(keys)
        state.variables[LOCAL] = local
    return place(state, devices)


def place(tree, devices: Sequence[jax.Device]):
    """Copy arrays to all devices. The local collection `[all devices, ...]` of a state is split over the devices.

    >>> place({"w": np.ones(3)}, jax.local_devices()[:1])["w"].tolist()
    [1.0, 1.0, 1.0]
    """

    def put(leaves, sharding):
        # On several devices the first would share the buffer of the argument, in spite of `may_alias=False`.
        copies = jax.tree.map(lambda leaf: jnp.copy(leaf) if isinstance(leaf, jax.Array) else leaf, leaves)
        return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding, may_alias=False), copies)

    mesh = Mesh(np.array(devices), (DEVICES,))
    placed = put(tree, devices[0] if len(devices) == 1 else NamedSharding(mesh, PartitionSpec()))
    if isinstance(tree, State) and LOCAL in tree.variables and num_global(devices) > 1:
        first = jax.process_index() * len(devices)
        own = jax.tree.map(lambda leaf: leaf[first : first + len(devices)], tree.variables[LOCAL])
        placed.variables[LOCAL] = put(own, NamedSharding(mesh, PartitionSpec(DEVICES)))
    return placed


def to_host(state: State) -> State:
    """A state on the host, with the local collection of all devices, and the key as its data."""
    local = {}
    if jax.process_count() > 1 and LOCAL in state.variables:
        local[LOCAL] = multihost_utils.process_allgather(jax.device_get(state.variables[LOCAL]), tiled=True)
    variables = {name: tree for name, tree in state.variables.items() if name not in local}
    host = jax.device_get(state._replace(variables=variables, key=jax.random.key_data(state.key)))
    return host._replace(variables=host.variables | local)


def from_one_device(variables):
    """Variables on one device: its copy of replicated arrays, and the local collection of the first of all devices."""
    own = {name: tree for name, tree in variables.items() if name != LOCAL}
    own = jax.tree.map(lambda leaf: leaf.addressable_data(0), own)
    if LOCAL in variables:
        first = jax.device_get(jax.tree.map(lambda leaf: leaf[0], variables[LOCAL]))
        if jax.process_count() > 1:
            first = multihost_utils.broadcast_one_to_all(first)
        own[LOCAL] = jax.tree.map(jnp.asarray, first)
    return own


def shapes_on_devices(state: State, num_devices: int) -> State:
    """The shapes of a state on several devices, from those on one: the local collection gets an axis of devices."""
    if num_devices == 1 or LOCAL not in state.variables:
        return state
    local = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num_devices, *leaf.shape), leaf.dtype), state.variables[LOCAL]
    )
    return state._replace(variables={**state.variables, LOCAL: local})


def stack_seeds(states: Sequence[State], devices: Sequence[jax.Device]) -> State:
    """Stack the states of several seeds, which are at the same step; a single state is returned as it is."""
    if len(states) == 1:
        return states[0]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state._replace(step=None) for state in states))
    if len(devices) > 1 and LOCAL in stacked.variables:  # [devices, seeds, ...]
        stacked.variables[LOCAL] = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), stacked.variables[LOCAL])
    return place(stacked._replace(step=states[0].step), devices)


def one_seed(state: State, i: int, num_seeds: int, num_devices: int) -> State:
    """The state of seed number `i` of a stack."""
    if num_seeds == 1:
        return state
    single = jax.tree.map(lambda leaf: leaf[i], state._replace(step=None))
    if num_devices > 1 and LOCAL in state.variables:
        single.variables[LOCAL] = jax.tree.map(lambda leaf: leaf[:, i], state.variables[LOCAL])
    return single._replace(step=state.step)
