"""The same step on one device (`jit`) or several (`pmap`): state replicated, rows spread, buffers donated.

`devices` are those of this process. With several processes the devices of all stand in a row, process by process, and each
process has as many; arrays live on its own devices, and only inside the step is there one axis over all.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dgmzoo.evaluation.log_likelihood import local_devices
from dgmzoo.reparam.collectives import DEVICES
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

    if num_all(devices) == 1:
        return jax.jit(run, donate_argnums=0)

    axis = 1 if num_seeds == 1 else 2  # of the examples

    def spread(leaf):  # [n, (S,) B, ...] to [n, (S,) devices, B / devices, ...]
        return leaf.reshape(*leaf.shape[:axis], len(devices), -1, *leaf.shape[axis + 1 :])

    def apart(local, state, rows, indices):
        """As `run`, with the local collection by itself: of several processes, `pmap` takes no axes within a dict."""
        state, metrics = run(state._replace(variables=state.variables | local), rows, indices)
        local, state = _without_local(state)
        return local, state, metrics

    in_axes, out_axes = (0, None, axis if streamed else None, axis), (0, None, None)
    row = in_a_row(devices)
    mapped = jax.pmap(apart, DEVICES, in_axes=in_axes, out_axes=out_axes, devices=row, donate_argnums=(0, 1))

    def dispatch(state, rows, indices):
        rows = jax.tree.map(spread, rows) if streamed else rows
        local, state, metrics = _settled(mapped(*_without_local(state), rows, spread(indices)))
        return state._replace(variables=state.variables | local), metrics

    return dispatch


def _take(leaf: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of `leaf [N, ...]`, gathered flat: compiled for CPU, slices with short last axes take six times as long."""
    return jnp.take(leaf.reshape(len(leaf), -1), index, 0).reshape(*index.shape, *leaf.shape[1:])


def _without_local(state: State) -> tuple[dict, State]:
    local = {name: tree for name, tree in state.variables.items() if name == LOCAL}
    return local, state._replace(variables={name: tree for name, tree in state.variables.items() if name != LOCAL})


def choose_devices(batch_size: int) -> list[jax.Device]:
    """The most local devices that divide the batch; with several processes all, so that none has nothing to do."""
    devices = local_devices()
    if jax.process_count() > 1:
        return devices
    num = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return devices[:num]


def in_a_row(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """The devices of all processes."""
    if jax.process_count() == 1:
        return list(devices)
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def num_all(devices: Sequence[jax.Device]) -> int:
    """How many devices all processes have."""
    return len(devices) * jax.process_count()


def own_share(batch: np.ndarray) -> np.ndarray:
    """This process's part of `[..., B]`."""
    size = batch.shape[-1] // jax.process_count()
    return batch[..., jax.process_index() * size :][..., :size]


class FlagReduction:
    """What any process wants: all hear of it one call later, at the same step, and so do the same."""

    def __init__(self, devices: Sequence[jax.Device]):
        self.num, self.asked = len(devices), None
        self.largest = jax.pmap(lambda x: jax.lax.pmax(x, DEVICES), DEVICES, out_axes=None, devices=in_a_row(devices))

    def __call__(self, *wants: bool) -> list[bool]:
        if jax.process_count() == 1:
            return list(wants)
        mine = np.tile(np.array(wants, np.int32), (self.num, 1))
        before, self.asked = self.asked, _settled(self.largest(mine))
        return [False] * len(wants) if before is None else [bool(want) for want in np.asarray(before)]


def _settled(found):
    """What is computed, or on CPU with several processes, what has been: gloo's programs in flight block each other."""
    if jax.process_count() > 1 and jax.default_backend() == "cpu":
        jax.block_until_ready(found)
    return found


def init_on(init: Callable, key, rows, devices: Sequence[jax.Device]) -> State:
    """A fresh state; the local collection, where there is one, is drawn once for each of several devices."""
    state = jax.jit(init)(key, rows)
    if num_all(devices) > 1 and LOCAL in state.variables:
        keys = jax.random.split(jax.random.fold_in(key, 1), num_all(devices))
        local = jax.jit(jax.vmap(lambda k: init(k, rows).variables[LOCAL]))(keys)
        state.variables[LOCAL] = local
    return place(state, devices)


def place(tree, devices: Sequence[jax.Device]):
    """Copies of the leaves on all devices; of a state's local collection `[all devices, ...]` each gets its own part."""

    def put(leaves, sharding):
        # Placed on several devices, an array would stay the buffer of the first, `may_alias=False` or not.
        own = jax.tree.map(lambda leaf: jnp.copy(leaf) if isinstance(leaf, jax.Array) else leaf, leaves)
        return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding, may_alias=False), own)

    mesh = Mesh(np.array(devices), (DEVICES,))
    placed = put(tree, devices[0] if len(devices) == 1 else NamedSharding(mesh, PartitionSpec()))
    if isinstance(tree, State) and LOCAL in tree.variables and num_all(devices) > 1:
        first = jax.process_index() * len(devices)
        own = jax.tree.map(lambda leaf: leaf[first : first + len(devices)], tree.variables[LOCAL])
        placed.variables[LOCAL] = put(own, NamedSharding(mesh, PartitionSpec(DEVICES)))
    return placed


def fetch(state: State) -> State:
    """A state on the host, with the local collection of all devices and the key as its data."""
    local = {}
    if jax.process_count() > 1 and LOCAL in state.variables:
        local[LOCAL] = multihost_utils.process_allgather(jax.device_get(state.variables[LOCAL]), tiled=True)
    variables = {name: tree for name, tree in state.variables.items() if name not in local}
    host = jax.device_get(state._replace(variables=variables, key=jax.random.key_data(state.key)))
    return host._replace(variables=host.variables | local)


def from_one_device(variables):
    """Variables as one device has them: its copy of what is replicated, the very first of what is local."""
    one = {name: tree for name, tree in variables.items() if name != LOCAL}
    one = jax.tree.map(lambda leaf: leaf.addressable_data(0), one)
    if LOCAL in variables:
        first = jax.device_get(jax.tree.map(lambda leaf: leaf[0], variables[LOCAL]))
        if jax.process_count() > 1:
            first = multihost_utils.broadcast_one_to_all(first)
        one[LOCAL] = jax.tree.map(jnp.asarray, first)
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
