"""Several devices train as one does: rows, random numbers, reductions and replicas."""

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
from dgmzoo.reparam.collectives import batch_mean, batch_sum, has_device_axis
from dgmzoo.training.devices import compile_dispatch, from_one_device, init_on, place
from dgmzoo.training.step import LOCAL, State, make_init, make_step
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.vae.vae import VAE
from tests.support import probes

ROWS = {"x": np.random.default_rng(0).integers(0, 2, (32, 2, 2)).astype(np.float32)}
INDICES = np.stack([np.random.default_rng(i).permutation(32)[:16] for i in range(6)]).astype(np.int32)
COUNTS = [4, pytest.param(2, marks=pytest.mark.thorough), pytest.param(8, marks=pytest.mark.thorough)]


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
    parts = []
    for part in np.split(indices, len(indices) // (dispatch_size or len(indices))):
        inputs = {name: leaf[part] for name, leaf in ROWS.items()} if streamed else rows
        state, metrics = dispatch(state, inputs, part)
        parts.append(jax.device_get(metrics))
    return state, jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def assert_replicas_agree(tree, num_devices):
    for path, leaf in jax.tree.leaves_with_path(tree):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == num_devices
        for copy in copies:
            assert copy.shape == leaf.shape
            np.testing.assert_array_equal(copy, copies[0], err_msg=jax.tree_util.keystr(path))


def assert_close(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


WITHOUT_NOISE = {"density": MADE(hidden=(16,), shape=(2, 2)), "moving averages": probes.MovingCodebook()}


@pytest.mark.parametrize("num", COUNTS)
@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_without_noise_several_devices_equal_one(name, num):
    model = functional(WITHOUT_NOISE[name])
    one, one_metrics = train(model, ELBO(), 1)
    several, metrics = train(model, ELBO(), num)
    assert_replicas_agree((several.step, several.variables, several.opt_state, several.ema), num)
    assert_close((several.variables, several.ema, metrics), (one.variables, one.ema, one_metrics))


@pytest.mark.thorough
@pytest.mark.parametrize("num", COUNTS)
def test_with_noise_the_losses_are_the_same_on_average(num):
    model, objective = functional(VAE(2, encoder=MLP((16,)), decoder=MLP((16,)), shape=(2, 2))), ELBO(num_samples=4)
    indices = np.stack([np.random.default_rng(i).permutation(32)[:16] for i in range(80)]).astype(np.int32)
    losses = []
    for devices in (1, num):
        state, metrics = train(model, objective, devices, indices, learning_rate=0.3)
        assert_replicas_agree((state.variables, state.opt_state, state.ema), devices)
        losses.append(metrics["loss"])
    difference = losses[1] - losses[0]
    assert np.abs(difference).max() > 1e-5, "each device draws noise of its own"
    error = difference[40:].std() / np.sqrt(40)
    assert abs(difference[40:].mean()) < 4 * error + 1e-3
    assert losses[1][40:].mean() < losses[1][:5].mean()


@pytest.mark.parametrize("num", COUNTS)
def test_free_bits_are_those_of_the_whole_batch(monkeypatch, num):
    model, objective = functional(Deterministic()), ELBO(free_bits=0.1)
    one, one_metrics = train(model, objective, 1)
    several, metrics = train(model, objective, num)
    assert_close((several.variables, metrics), (one.variables, one_metrics))
    monkeypatch.setattr(elbo, "batch_mean", jnp.mean)  # means over the rows of one device are others
    _, metrics = train(model, objective, num)
    assert np.abs(metrics["loss"] - one_metrics["loss"]).max() > 1e-3


class Deterministic(VAE):
    """A VAE with the likelihood at the mean of the posterior: no noise, but a KL."""

    latent_dim: int = 3
    encoder: MLP = MLP((16,))
    decoder: MLP = MLP((16,))
    shape: tuple[int, ...] = (2, 2)

    def evidence(self, batch, query):
        z = self.z(self.encoder(8 * flat(batch["x"], self.shape)), query, "z")
        p = self.likelihood(self.decoder(z.q["mean"]), self.shape, batch)
        return Evidence(log_likelihood(p, batch["x"]), {"z": z}, parameters=parameters(p))


@pytest.mark.thorough
@pytest.mark.parametrize("num", COUNTS)
def test_every_device_has_chains_of_its_own(num):
    state, _ = train(functional(probes.BoltzmannPrior()), probes.Enumeration(), num)
    chains = state.variables[LOCAL]["chains"]
    assert chains.shape == (num, 16, 3)
    assert [shard.data.shape for shard in chains.addressable_shards] == [(1, 16, 3)] * num
    assert len({chain.tobytes() for chain in np.asarray(chains)}) == num
    shared = {name: tree for name, tree in state.variables.items() if name != LOCAL}
    assert_replicas_agree((shared, state.ema), num)
    assert from_one_device(state.variables)[LOCAL]["chains"].shape == (16, 3)


@pytest.mark.parametrize("streamed", [False, True])
def test_every_device_sees_its_own_rows(streamed):
    """The numbers of the rows are recorded on each device, and summed over the devices."""
    seen = []
    indices = np.arange(16, dtype=np.int32).reshape(2, 8)

    def step(state, rows):
        jax.debug.callback(lambda at, x: seen.append((int(at), x.reshape(len(x), -1).tolist())), state, rows["x"])
        total = batch_sum(rows["x"])
        return state + 1, {"sum": total, "mean": batch_mean(rows["x"]), "device": jnp.asarray(has_device_axis())}

    devices = jax.devices()[:4]
    run = compile_dispatch(WithState(step), devices, streamed)
    numbers = {"x": np.arange(16, dtype=np.float32)[:, None]}
    rows = {"x": numbers["x"][indices]} if streamed else place(numbers, devices)
    state = number_state(devices)
    _, metrics = run(state, rows, indices)
    jax.effects_barrier()
    np.testing.assert_array_equal(metrics["sum"][:, 0], indices.sum(1))
    np.testing.assert_array_equal(metrics["mean"][:, 0], indices.mean(1))
    assert metrics["device"].all()
    for at in range(2):
        expected = indices[at].reshape(4, 2)
        assert sorted(x for step, x in seen if step == at) == [[[float(a)], [float(b)]] for a, b in expected]


def number_state(devices):
    variables = {"params": jnp.zeros(1)}  # pmap needs at least one array
    return place(State(jnp.zeros((), jnp.int32), jax.random.key(0), variables, (), None), devices)


class WithState:
    """A step over the bare step number."""

    def __init__(self, step):
        self.step = step

    def __call__(self, state, rows):
        number, metrics = self.step(state.step, rows)
        return state._replace(step=number), metrics


@pytest.mark.parametrize("num", [2, pytest.param(1, marks=pytest.mark.thorough)])
def test_dispatches_of_any_size_give_the_same(num):
    model, objective = functional(VAE(2, encoder=MLP((16,)), decoder=MLP((16,)), shape=(2, 2))), ELBO()
    whole, whole_metrics = train(model, objective, num)
    for options in ({"dispatch_size": 1}, {"streamed": True}):
        state, metrics = train(model, objective, num, **options)
        assert_close((state.variables, metrics), (whole.variables, whole_metrics))


@pytest.mark.parametrize(
    "num_samples", [1, 200, *(pytest.param(num, marks=pytest.mark.thorough) for num in (60, 150, 400))]
)
def test_evaluation_is_the_same_on_any_devices_to_the_bit(num_samples):
    """The last part of the rows is not full, and neither is the last round of parts."""
    model = functional(VAE(2, encoder=MLP((16,)), decoder=MLP((16,)), shape=(2, 2)))
    rows = {"x": np.random.default_rng(1).integers(0, 2, (1001 if num_samples == 1 else 217, 2, 2)).astype(np.float32)}
    variables = jax.jit(model.init)(jax.random.key(0), {"x": rows["x"][:2]})
    done, estimates = [], []
    for num in (1, 2, 4):
        devices, record = jax.devices()[:num], lambda *progress: done.append(progress)
        e = evaluate(model, variables, rows, jax.random.key(1), num_samples, record, devices)
        estimates.append((e.per_example, e.variance, e.per_example_elbo, e.kl, e.means))
    per_example = estimates[0][0]
    assert per_example.shape == (len(rows["x"]),) and len(set(per_example.tolist())) > len(rows["x"]) / 2
    for other in estimates[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, estimates[0])
    assert all(at < total == len(rows["x"]) for at, total in done)


def test_placed_state_is_a_copy():
    """The buffers of the placed state are donated, and the arrays of the caller must survive."""
    original = {"x": jnp.ones(3)}
    for num in (1, 2):
        placed = place(original, jax.devices()[:num])
        jax.tree.map(lambda leaf: leaf.delete(), placed)
        np.testing.assert_array_equal(original["x"], 1)


def test_reductions_on_one_device_are_plain():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(batch_mean(x), x.mean(0))
    np.testing.assert_array_equal(batch_sum(x, (0, 1)), x.sum())
    assert not has_device_axis()
