"""Every variational layer trains on digits, and a run keeps which one it was."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from sklearn.datasets import load_digits

import dgmzoo
from dgmzoo.config.names import LATENTS
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.functional import functional
from dgmzoo.model.precision import in_precision
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE
from dgmzoo.reparam.distributions import NormalMixture, PiecewiseNormal, SpikeAndSlab
from dgmzoo.training import benchmark
from dgmzoo.training.devices import compile_dispatch, init_on, place
from dgmzoo.training.step import make_init, make_step
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE

STEPS = 400
NO_CODE = -27.18  # the mean log-likelihood of the rows below by independent pixels at their frequencies
VARIANTS = {
    **{name: layer() for name, layer in LATENTS.items()},
    "plain horseshoe": HorseshoeLayer(slab=None),
    "smooth": RectifiedLayer(smooth=True),
    "piecewise prior": VariationalLayer(prior=PiecewiseNormal),
    "laplace": VariationalLayer(posterior=dist.Laplace, prior=dist.Laplace),
    "student t": VariationalLayer(prior=dist.StudentT, learned_prior=True),
    "mixture": VariationalLayer(posterior=NormalMixture, prior=NormalMixture),
    "spike and slab": VariationalLayer(prior=SpikeAndSlab, learned_prior=True),
    "centred": PiecewiseLayer(prior=PiecewiseNormal, centred=True),
}
PAIRS = [
    (name, objective)
    for name, layer in VARIANTS.items()
    for objective in (ELBO(), IWAE(5))
    if not layer.refusal(objective.estimate)
]


@pytest.mark.parametrize(
    "name, objective", PAIRS, ids=lambda each: each if isinstance(each, str) else type(each).__name__
)
def test_trains_on_digits(name, objective):
    x = (np.random.default_rng(0).random((1797, 8, 8)) < load_digits().images / 16).astype(np.float32)
    model = functional(VAE(10, latent=VARIANTS[name], encoder=MLP((50,)), decoder=MLP((50,)), shape=(8, 8)))
    optimizer = optax.adam(3e-3)
    init = make_init(model, objective, optimizer, lambda key, rows: dict(rows), False)
    step = make_step(model, objective, optimizer, lambda key, rows: dict(rows), 1797, None)
    rows = {"x": jnp.asarray(x)}
    state = jax.jit(init)(jax.random.key(0), {"x": rows["x"][:64]})
    indices = np.random.default_rng(1).integers(0, 1797, (STEPS, 64)).astype(np.int32)
    state, metrics = compile_dispatch(step, jax.devices()[:1])(state, rows, indices)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.variables, metrics)))
    first, last = (metrics["elbo"][part].mean() for part in (slice(0, 10), slice(-10, None)))
    # A horseshoe's bound in training is that of z and its local scale together, well below that of z.
    assert last > (first + 8 if "horseshoe" in name else NO_CODE + 0.5), (first, last)


TWO = {name: layer for name, layer in VARIANTS.items() if name in LATENTS or name == "piecewise prior"}
del TWO["point"]  # of which one layer is all


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("devices, objective, compute", [(2, ELBO(), "bfloat16"), (1, IWAE(5), "float32")], ids=str)
def test_two_layers_train_on_digits(name, devices, objective, compute):
    """One sample in bfloat16 on two devices, and five samples."""
    if VARIANTS[name].refusal(objective.estimate):
        pytest.skip("refused")
    x = (np.random.default_rng(0).random((1797, 8, 8)) < load_digits().images / 16).astype(np.float32)
    module = HierarchicalVAE(latent_dims=(8, 4), hidden=(40, 20), depth=1, latent=TWO[name], shape=(8, 8))
    model, chosen = in_precision(functional(module), jnp.dtype(compute)), jax.devices()[:devices]
    optimizer, observe = optax.adam(3e-3), lambda key, rows: dict(rows)
    init = make_init(model, objective, optimizer, observe, False)
    step = make_step(model, objective, optimizer, observe, 1797, None)
    rows = {"x": jnp.asarray(x)}
    state = init_on(init, jax.random.key(0), {"x": rows["x"][:2]}, chosen)
    indices = np.random.default_rng(1).integers(0, 1797, (STEPS, 64)).astype(np.int32)
    state, metrics = compile_dispatch(step, chosen)(state, place(rows, chosen), indices)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.variables, metrics)))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.variables)} == {jnp.dtype("float32")}
    first, last = (metrics["elbo"][part].mean() for part in (slice(0, 10), slice(-10, None)))
    assert last > max(first + 3, -44), (first, last)


@pytest.mark.parametrize("name", ["point", "horseshoe"])
def test_a_run_keeps_its_layer(name, tmp_path):
    changes = {"model.latent": name, "training.steps": 5, "evaluation.num_samples": 3, "model.latent_dim": 3}
    run = dgmzoo.train(dgmzoo.experiment("vae/digits", changes), tmp_path, progress=False)
    assert run.record["bound"] == (None if name == "point" else "iw")
    again = dgmzoo.load(tmp_path)
    assert type(again.experiment.model.latent) is LATENTS[name]
    assert again.record["overrides"]["model.latent"] == name
    if name == "point":
        with pytest.raises(ValueError, match="without `generate`"):
            again.sample(3)
    else:
        assert again.sample(3).shape[0] == 3


@pytest.mark.parametrize("name", LATENTS)
def test_a_layer_compiles_quickly(name, compiled_anew):
    """Sample, KL and gradient, with XLA's optimizations, in seconds of the processor."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        assert benchmark.seconds_to_compile(dgmzoo.experiment("vae/digits", {"model.latent": name})) < 10
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


def test_layers_are_timed_in_turns():
    found = benchmark.bench_layers(dgmzoo.experiment("vae/digits", {"training.ema": 0.9}), ["normal", "point"], 3, 4)
    assert list(found) == ["normal", "point"] and found["normal"]["ratio"] == 1
    assert found["point"]["ratio"] == pytest.approx(
        found["point"]["seconds_per_step"] / found["normal"]["seconds_per_step"]
    )
    assert all(value > 0 for figures in found.values() for value in figures.values())
