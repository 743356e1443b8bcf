"""Several devices train as one does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.layers.likelihoods.base import log_likelihood, parameters
from dgmzoo.layers.networks.mlp import MLP, flat
from dgmzoo.model.contract import Evidence
from dgmzoo.model.functional import functional
from dgmzoo.objectives import elbo
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.reparam.collectives import batch_mean, batch_sum, spread
from dgmzoo.training.devices import compile_dispatch, from_one_device, init_on, place
from dgmzoo.training.step import LOCAL, State, make_init, make_step
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.vae.vae import VAE
from tests.support import probes

ROWS = {"x": np.random.default_rng(0).integers(0, 2, (32, 2, 2)).astype(np.float32)}
INDICES = np.stack([np.random.default_rng(i).permutation(32)[:16] for i in range(6)]).astype(np.int32)
COUNTS = (1, 2, 4, 8)


def observe(key, rows):
    return dict(rows)


def train(model, objective, num_devices, indices=INDICES, learning_rate=0.1, dispatch_size=None, streamed=False):
    """State, metrics `{name: [steps]}` and devices after training by SGD."""
    devices = jax.devices()[:num_devices]
    optimizer = optax.sgd(learning_rate)
    init = make_init(model, objective, optimizer, observe, ema=True)
    step = make_step(model, objective, optimizer, observe, 32, 0.9)
    batch = {name: jnp.asarray(leaf[:2]) for name, leaf in ROWS.items()}
    state = init_on(init, jax.random.key(0), batch, devices)
    dispatch = compile_dispatch(step, devices, streamed)
    rows = place(ROWS, devices)
    found = []
    for part in np.split(indices, len(indices) // (dispatch_size or len(indices))):
        given = {name: leaf[part] for name, leaf in ROWS.items()} if streamed else rows
        state, metrics = dispatch(state, given, part)
        found.append(jax.device_get(metrics))
    return state, jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def assert_replicas_agree(tree, num_devices):
    for path, leaf in jax.tree.leaves_with_path(tree):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == num_devices
        for copy in copies:
            assert copy.shape == leaf.shape
            np.testing.assert_array_equal(copy, copies[0], err_msg=jax.tree_util.keystr(path))


def assert_close(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


# No draws: equal to rounding.
EXACT = {
    "density": (MADE(hidden=(16,), shape=(2, 2)), ELBO()),
    "moving-averages": (probes.MovingCodebook(), ELBO()),
}


@pytest.mark.parametrize("name", EXACT)
def test_without_draws_several_devices_equal_one(name):
    module, objective = EXACT[name]
    model = functional(module)
    one, one_metrics = train(model, objective, 1)
    for num in COUNTS[1:]:
        several, metrics = train(model, objective, num)
        assert_replicas_agree((several.step, several.variables, several.opt_state, several.ema), num)
        assert_close((several.variables, several.ema, metrics), (one.variables, one.ema, one_metrics))


def test_with_draws_the_curve_is_the_same_within_noise():
    model, objective = functional(VAE(2, encoder=MLP((16,)), decoder=MLP((16,)), shape=(2, 2))), ELBO(num_samples=4)
    indices = np.stack([np.random.default_rng(i).permutation(32)[:16] for i in range(80)]).astype(np.int32)
    curves = []
    for num in COUNTS:
        state, metrics = train(model, objective, num, indices, learning_rate=0.3)
        assert_replicas_agree((state.variables, state.opt_state, state.ema), num)
        curves.append(metrics["loss"])
    for curve in curves[1:]:
        difference = curve - curves[0]
        assert np.abs(difference).max() > 1e-5, "each device draws noise of its own"
        spread = difference[40:].std() / np.sqrt(40)
        assert abs(difference[40:].mean()) < 4 * spread + 1e-3
        assert curve[40:].mean() < curve[:5].mean()


def test_free_bits_are_those_of_the_whole_batch(monkeypatch):
    model, objective = functional(_Deterministic()), ELBO(free_bits=0.1)
    one, one_metrics = train(model, objective, 1)
    for num in COUNTS[1:]:
        several, metrics = train(model, objective, num)
        assert_close((several.variables, metrics), (one.variables, one_metrics))
    monkeypatch.setattr(elbo, "batch_mean", jnp.mean)  # each device's rows alone give something else
    _, metrics = train(model, objective, 8)
    assert np.abs(metrics["loss"] - one_metrics["loss"]).max() > 1e-3


class _Deterministic(VAE):
    """A VAE whose likelihood is that at the posterior's mean: no noise, but a KL."""

    latent_dim: int = 3
    encoder: MLP = MLP((16,))
    decoder: MLP = MLP((16,))
    shape: tuple[int, ...] = (2, 2)

    def evidence(self, batch, query):
        z = self.z(self.encoder(8 * flat(batch["x"], self.shape)), query, "z")
        p = self.likelihood(self.decoder(z.q["mean"]), self.shape, batch)
        return Evidence(log_likelihood(p, batch["x"]), {"z": z}, parameters=parameters(p))


def test_every_device_has_chains_of_its_own():
    model, objective = functional(probes.BoltzmannPrior()), probes.Enumeration()
    for num in COUNTS[1:]:
        state, _ = train(model, objective, num)
        chains = state.variables[LOCAL]["chains"]
        assert chains.shape == (num, 16, 3)
        assert [shard.data.shape for shard in chains.addressable_shards] == [(1, 16, 3)] * num
        each = np.asarray(chains)
        assert all((each[i] != each[j]).any() for i in range(num) for j in range(i))
        shared = {name: tree for name, tree in state.variables.items() if name != LOCAL}
        assert_replicas_agree((shared, state.ema), num)
        assert from_one_device(state.variables)[LOCAL]["chains"].shape == (16, 3)


@pytest.mark.parametrize("streamed", [False, True])
def test_every_device_sees_its_own_rows(streamed):
    """With one row a device and step, what is summed over devices is what they saw."""
    seen = []
    indices = np.arange(16, dtype=np.int32).reshape(2, 8)

    def step(state, rows):
        jax.debug.callback(lambda at, x: seen.append((int(at), x.reshape(len(x), -1).tolist())), state, rows["x"])
        total = batch_sum(rows["x"])
        return state + 1, {"sum": total, "mean": batch_mean(rows["x"]), "device": jnp.asarray(spread())}

    devices = jax.devices()[:4]
    run = compile_dispatch(_Stateful(step), devices, streamed)
    numbers = {"x": np.arange(16, dtype=np.float32)[:, None]}
    rows = {"x": numbers["x"][indices]} if streamed else place(numbers, devices)
    state = _state(devices)
    _, metrics = run(state, rows, indices)
    jax.effects_barrier()
    np.testing.assert_array_equal(metrics["sum"][:, 0], indices.sum(1))
    np.testing.assert_array_equal(metrics["mean"][:, 0], indices.mean(1))
    assert metrics["device"].all()
    for at in range(2):
        expected = indices[at].reshape(4, 2)
        assert sorted(x for step, x in seen if step == at) == [[[float(a)], [float(b)]] for a, b in expected]


def _state(devices):
    variables = {"params": jnp.zeros(1)}  # pmap wants some
    return place(State(jnp.zeros((), jnp.int32), jax.random.key(0), variables, (), None), devices)


class _Stateful:
    """A step over the bare step number."""

    def __init__(self, step):
        self.step = step

    def __call__(self, state, rows):
        number, metrics = self.step(state.step, rows)
        return state._replace(step=number), metrics


def test_dispatches_of_any_size_give_the_same():
    model, objective = functional(VAE(2, encoder=MLP((16,)), decoder=MLP((16,)), shape=(2, 2))), ELBO()
    for num in (1, 2):
        whole, whole_metrics = train(model, objective, num)
        single, single_metrics = train(model, objective, num, dispatch_size=1)
        gathered, gathered_metrics = train(model, objective, num, streamed=True)
        assert_close((single.variables, single_metrics), (whole.variables, whole_metrics))
        assert_close((gathered.variables, gathered_metrics), (whole.variables, whole_metrics))


@pytest.mark.parametrize("num_samples", [1, 60, 150, 200, 400])
def test_evaluation_does_not_depend_on_the_devices(num_samples):
    """Not even in rounding; the last part is not full, nor is the last round of parts."""
    model = functional(VAE(2, encoder=MLP((16,)), decoder=MLP((16,)), shape=(2, 2)))
    rows = {"x": np.random.default_rng(1).integers(0, 2, (1001 if num_samples == 1 else 217, 2, 2)).astype(np.float32)}
    variables = jax.jit(model.init)(jax.random.key(0), {"x": rows["x"][:2]})
    done = []
    found = [
        evaluate(model, variables, rows, jax.random.key(1), num_samples, lambda *at: done.append(at), jax.devices()[:n])
        for n in (1, 2, 4)
    ]
    each = [(e.per_example, e.variance, e.per_example_elbo, e.kl, e.means) for e in found]
    assert (
        found[0].per_example.shape == (len(rows["x"]),) and len(set(found[0].per_example.tolist())) > len(rows["x"]) / 2
    )
    for other in each[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, each[0])
    assert all(at < total == len(rows["x"]) for at, total in done)


def test_placed_state_is_a_copy():
    """The state's buffers are donated: the caller's arrays must stay."""
    mine = {"x": jnp.ones(3)}
    for num in (1, 2):
        placed = place(mine, jax.devices()[:num])
        jax.tree.map(lambda leaf: leaf.delete(), placed)
        np.testing.assert_array_equal(mine["x"], 1)


def test_reductions_on_one_device_are_plain():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(batch_mean(x), x.mean(0))
    np.testing.assert_array_equal(batch_sum(x, (0, 1)), x.sum())
    assert not spread()
