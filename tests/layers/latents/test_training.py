"""Every variational layer trains on digits, a run keeps its layer, and layers compile in seconds."""

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
from dgmzoo.layers.priors.base import LearnedPrior
from dgmzoo.model.compatibility import judge
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
from tests.support.tiny import TINY, skip_reports

STEPS = 400
INDEPENDENT_PIXELS = -27.18  # mean log-likelihood of the rows below by independent pixels at their frequencies
LAYERS = {
    **{name: layer() for name, layer in LATENTS.items()},
    "plain horseshoe": HorseshoeLayer(slab=None),
    "smooth": RectifiedLayer(smooth=True),
    "piecewise prior": VariationalLayer(prior=PiecewiseNormal),
    "laplace": VariationalLayer(posterior=dist.Laplace, prior=dist.Laplace),
    "student t": VariationalLayer(prior=LearnedPrior(dist.StudentT)),
    "mixture": VariationalLayer(posterior=NormalMixture, prior=NormalMixture),
    "spike and slab": VariationalLayer(prior=LearnedPrior(SpikeAndSlab)),
    "centred": PiecewiseLayer(prior=PiecewiseNormal, centred=True),
}
OBJECTIVES = {"elbo": ELBO(), "iwae": IWAE(5)}


def trainable(names):
    """Pairs of layer and objective whose gradient is exact."""
    return [
        (name, objective)
        for name in names
        for objective in OBJECTIVES
        if judge(LAYERS[name].facts(), OBJECTIVES[objective].needs).kind == "exact"
    ]


def train_on_digits(module, objective, devices=1, compute="float32"):
    """State and metrics of `STEPS` steps of Adam on binarized digits, all finite."""
    images = load_digits().images / 16
    rows = {"x": jnp.asarray(np.random.default_rng(0).random(images.shape) < images, jnp.float32)}
    model, chosen = in_precision(functional(module), jnp.dtype(compute)), jax.devices()[:devices]
    optimizer, observe = optax.adam(3e-3), lambda key, rows: dict(rows)
    init = make_init(model, objective, optimizer, observe, False)
    step = make_step(model, objective, optimizer, observe, len(images), None)
    state = init_on(init, jax.random.key(1), {"x": rows["x"][:64]}, chosen)
    indices = np.random.default_rng(1).integers(0, len(images), (STEPS, 64)).astype(np.int32)
    state, metrics = compile_dispatch(step, chosen)(state, place(rows, chosen), indices)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.variables, metrics)))
    return state, metrics


def first_and_last(metrics):
    """Mean bound of the first ten and the last ten steps."""
    return metrics["elbo"][:10].mean(), metrics["elbo"][-10:].mean()


def check_one_layer(name, objective):
    module = VAE(10, latent=LAYERS[name], encoder=MLP((50,)), decoder=MLP((50,)), shape=(8, 8))
    first, last = first_and_last(train_on_digits(module, OBJECTIVES[objective])[1])
    # The training bound of a horseshoe is that of z and its local scale together, well below that of z.
    assert last > (first + 8 if "horseshoe" in name else INDEPENDENT_PIXELS + 0.5), (first, last)


def check_two_layers(name, objective, devices, compute):
    module = HierarchicalVAE(latent_dims=(8, 4), hidden=(40, 20), depth=1, latent=LAYERS[name], shape=(8, 8))
    state, metrics = train_on_digits(module, OBJECTIVES[objective], devices, compute)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.variables)} == {jnp.dtype("float32")}
    first, last = first_and_last(metrics)
    assert last > max(first + 3, -44), (first, last)


@pytest.mark.thorough
def test_a_rectified_layer_trains_on_digits():
    check_one_layer("rectified", "elbo")


@pytest.mark.thorough
@pytest.mark.parametrize("name, objective", [pair for pair in trainable(LAYERS) if pair != ("rectified", "elbo")])
def test_every_layer_trains_on_digits(name, objective):
    check_one_layer(name, objective)


@pytest.mark.thorough
def test_two_normal_layers_train_on_two_devices_in_bfloat16():
    check_two_layers("normal", "elbo", 2, "bfloat16")


# Of point layers one is all.
IN_TWO_LAYERS = trainable([name for name in LATENTS if name != "point"] + ["piecewise prior"])


@pytest.mark.thorough
@pytest.mark.parametrize("name, objective", [pair for pair in IN_TWO_LAYERS if pair != ("normal", "elbo")])
def test_two_layers_of_every_kind_train_on_digits(name, objective):
    """One sample on two devices in bfloat16, or five samples on one device."""
    check_two_layers(name, objective, *((2, "bfloat16") if objective == "elbo" else (1, "float32")))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["horseshoe", pytest.param("point", marks=pytest.mark.thorough)])
def test_a_run_keeps_its_layer(name, tmp_path, monkeypatch):
    skip_reports(monkeypatch)
    changes = TINY | {"model.latent": name, "training.steps": 5, "evaluation.num_samples": 3}
    run = dgmzoo.train(dgmzoo.experiment("vae/digits", changes), tmp_path, progress=False)
    assert run.record["bound"] == (None if name == "point" else "iw")
    loaded = dgmzoo.load(tmp_path)
    assert type(loaded.experiment.model.latent) is LATENTS[name]
    assert loaded.record["overrides"]["model.latent"] == name
    if name == "point":
        with pytest.raises(ValueError, match="without `generate`"):
            loaded.sample(3)
    else:
        assert loaded.sample(3).shape[0] == 3


SLOWEST_TO_COMPILE = "piecewise"


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.thorough] * (name != SLOWEST_TO_COMPILE)) for name in LATENTS]
)
def test_a_layer_compiles_in_ten_seconds(name, compiled_anew):
    """Sample, KL and gradient with XLA's optimizations, in processor time."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        changes = {"model.latent": name} | ({"objective": "nvil"} if name == "categorical" else {})
        assert benchmark.seconds_to_compile(dgmzoo.experiment("vae/digits", changes)) < 10
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.thorough
def test_layers_are_timed_in_turns():
    exp = dgmzoo.experiment("vae/digits", TINY | {"training.ema": 0.9})
    figures = benchmark.bench_layers(exp, ["normal", "point"], 3, 4)
    assert list(figures) == ["normal", "point"] and figures["normal"]["ratio"] == 1
    assert figures["point"]["ratio"] == pytest.approx(
        figures["point"]["seconds_per_step"] / figures["normal"]["seconds_per_step"]
    )
    assert all(value > 0 for of_layer in figures.values() for value in of_layer.values())
