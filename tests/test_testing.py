"""The public battery: entries that are broken on purpose fail the law that should catch them, and sound ones pass."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo import MLP, VAE, VariationalLayer, testing
from dgmzoo.model.contract import Evidence, Query
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.reparam.ops import relaxed_promotion
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from tests.conftest import release_programs
from tests.support.command import run
from tests.support.probes import LinearGaussian
from tests.support.toy_rows import BITS, MASKED
from tests.support.user_entries import AffineFlow, Autoregressive, BitsVAE, CorrelatedPrior, Tokens

REAL = {"x": np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)}
ROWS = {"x": BITS["x"].reshape(16, 4)}
SEQUENCES = {
    "x": np.array([[1, 2, 0], [1, 1, 1], [2, 0, 0], [1, 1, 2]], np.int32),
    "length": np.array([2, 3, 1, 3], np.int32),
}
COMPILED_TWICE = {"seeds", "compilation"}  # laws that take longest


@pytest.fixture(autouse=True)
def as_users_run():
    """Implicit promotion, as in a user's own session."""
    with relaxed_promotion():
        yield
    release_programs()


@pytest.mark.parametrize(
    "module, batch, proved",
    [
        (AffineFlow(), REAL, {"total mass", "samples", "gradients"}),
        (Autoregressive(), ROWS, {"total mass", "samples", "marginals"}),
        (BitsVAE(), MASKED, {"total mass", "samples", "masked elements", "marginals", "given samples", "kl"}),
        pytest.param(
            BitsVAE(contrast=1e-3),
            BITS,
            {"total mass", "samples", "given samples", "given in training"},
            marks=pytest.mark.thorough,
        ),
        pytest.param(Tokens(), SEQUENCES, {"total mass", "samples", "padding"}, marks=pytest.mark.thorough),
        pytest.param(
            LinearGaussian(shape=(2,)),
            REAL,
            {"total mass", "samples", "kl", "given samples"},
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            LinearGaussian(units=1, shape=(3,)),
            {"x": np.tile(REAL["x"], 2)[:, :3]},
            {"total mass", "samples"},
            marks=pytest.mark.thorough,
        ),
    ],
    ids=["flow", "autoregressive", "masked", "nearly uniform", "sequences", "latents of real x", "three real elements"],
)
def test_sound_entries_pass(module, batch, proved):
    report = testing.check(module, batch, only=set(testing.LAWS) - COMPILED_TWICE)
    assert proved <= {outcome.law for outcome in report.passed}, str(report)


FIVE = [
    (Autoregressive("sign"), ROWS, "total mass"),
    (AffineFlow("log-determinant"), REAL, "total mass"),
    (Autoregressive("order"), ROWS, "samples"),
    (BitsVAE("inverted"), MASKED, "masked elements"),
    (BitsVAE("given"), BITS, "given samples"),
]
OTHERS = [
    (Autoregressive("half"), ROWS, "shapes"),
    (Autoregressive("calls"), ROWS, "state"),
    (AffineFlow("sign"), REAL, "total mass"),
    (AffineFlow("inverse"), REAL, "samples"),
    (Autoregressive("itself"), ROWS, "total mass"),
    (BitsVAE("training"), BITS, "given in training"),
    (BitsVAE("kl"), BITS, "kl"),
    (BitsVAE("shape"), BITS, "bad input"),
    (Autoregressive("mix"), ROWS, "examples"),
    (BitsVAE("encoder"), MASKED, "masked elements"),
    (BitsVAE("ignored"), MASKED, "marginals"),
    (Autoregressive("mask"), ROWS, "marginals"),
    (Tokens("padding"), SEQUENCES, "padding"),
    (Tokens("length"), SEQUENCES, "total mass"),
    (Autoregressive("parameter"), ROWS, "gradients"),
    (Autoregressive("side effect"), ROWS, "compilation"),
    (Autoregressive("side effect"), ROWS, "seeds"),
]


def correlated(broken):
    latent = VariationalLayer(prior=CorrelatedPrior(broken))
    return VAE(2, latent, encoder=MLP((4,)), decoder=MLP((4,)), shape=(4,))


@pytest.mark.parametrize(
    "broken", ["transposed", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("mean", "log-determinant"))]
)
def test_a_prior_that_does_not_follow_its_samples_fails(broken):
    law = "priors"
    with pytest.raises(testing.BatteryError, match=f"^expected VAE.*\n{law}: expected .*prior of 'z'"):
        testing.check(correlated(broken), ROWS, only=(law,))
    if broken == "mean":
        sound = testing.check(correlated(""), ROWS, only=(law, "total mass"))
        assert len(sound.passed) == 2 and not sound.unproved, str(sound)


class WrongSign:
    """An entry with the wrong sign of log p(x | z)."""

    def evidence(self, batch, query):
        evidence = super().evidence(batch, query)
        return evidence._replace(log_likelihood=-evidence.log_likelihood)


class Reciprocal(WrongSign, LinearGaussian): ...


class ReciprocalBits(WrongSign, VAE): ...


@pytest.mark.thorough
def test_a_wrong_mass_fails_although_its_estimate_is_imprecise():
    with pytest.raises(testing.BatteryError, match="total mass: expected a density of mass 1"):
        testing.check(Reciprocal(units=1, shape=(2,)), REAL, only=("total mass",))
    with pytest.raises(testing.BatteryError, match=r"total mass: expected a density of mass 1 .*, got .*inf"):
        testing.check(ReciprocalBits(2, encoder=MLP((4,)), decoder=MLP((4,)), shape=(4,)), ROWS, only=("total mass",))


REFUSED_BY_THE_CONTRACT = {"half", "calls"}  # `functional` refuses them in words of its own


def _id(value):
    return (
        f"{type(value).__name__} {value.broken}"
        if isinstance(value, nn.Module)
        else value
        if isinstance(value, str)
        else ""
    )


@pytest.mark.parametrize("module, batch, law", FIVE + OTHERS, ids=_id)
def test_a_broken_entry_fails_the_law_that_should_catch_it(module, batch, law):
    in_words = "" if module.broken in REFUSED_BY_THE_CONTRACT else "(?!the law to run)"
    with pytest.raises(testing.BatteryError, match=f"(?m)^{law}: expected {in_words}.*got"):
        testing.check(module, batch, only=(law,))
    if (module, batch, law) in FIVE:
        testing.check(module.clone(broken=""), batch, only=(law,))


def test_every_law_is_seen_to_fail():
    assert {law for _, _, law in FIVE + OTHERS} == set(testing.LAWS) - {"priors"}  # its test is above


def test_a_report_says_why_laws_are_skipped():
    class Broken(nn.Module):
        @nn.compact
        def evidence(self, batch, query: Query) -> Evidence:
            return Evidence(jnp.full((len(batch["x"]), 1), self.param("p", nn.initializers.ones, ())))

    report = testing.check(Broken(), ROWS, raises=False, only=("shapes", "samples"))
    assert [outcome.status for outcome in report.outcomes] == ["failed", "skipped"]
    assert "log_likelihood of shape (3, 16)" in str(report) and "no valid evidence" in str(report)
    wide = {"x": np.zeros((4, 784), np.float32)}
    report = testing.check(AffineFlow(), wide, only=("total mass",), values=(0, 1))
    assert "2^784" in report.skipped[0].detail


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="expected a batch with x of at least 2 rows"):
        testing.check(AffineFlow(), {"x": REAL["x"][:1]})
    with pytest.raises(ValueError, match=r"expected laws among shapes, .*got sum"):
        testing.check(AffineFlow(), REAL, only=("sum",))


BELIEFS = SigmoidBeliefNetwork(latent_dims=(2, 1), hidden=(), shape=(2,))
PAIR = {"x": np.array([[0, 1], [1, 1]], np.float32)}


@pytest.mark.thorough
def test_the_score_function_is_unbiased_up_to_its_known_factor():
    """NVIL divides by max(1, running deviation of the signal), which is 1 here."""
    exact = testing.unbiased(NVIL(baseline_hidden=(4,)), BELIEFS, PAIR)
    assert exact.is_unbiased and exact.cosine > 0.99 and abs(exact.scale - 1) < 0.05, exact
    pathwise = testing.unbiased(ELBO(), BELIEFS, PAIR, num_keys=1000)
    assert not pathwise.is_unbiased and pathwise.largest_z > 2 * pathwise.bound, pathwise


@pytest.mark.thorough
@pytest.mark.parametrize("objective", [ELBO(), IWAE(2), DReG(2)], ids=lambda objective: type(objective).__name__)
def test_pathwise_gradients_are_unbiased(objective):
    comparison = testing.unbiased(objective, LinearGaussian(units=1, shape=(2,)), PAIR)
    assert comparison.is_unbiased and comparison.cosine > 0.99 and abs(comparison.scale - 1) < 0.05, comparison


@dataclasses.dataclass(frozen=True)
class Doubled(ELBO):
    """The ELBO with a wrong factor of its loss."""

    def __call__(self, *arguments):
        loss, rest = super().__call__(*arguments)
        return 1.2 * loss, rest


def test_a_wrong_factor_shows_in_the_scale():
    comparison = testing.unbiased(Doubled(), LinearGaussian(units=1, shape=(2,)), PAIR)
    assert not comparison.is_unbiased and 1.1 < comparison.scale < 1.3 and comparison.cosine > 0.99, comparison


def test_gradients_that_cannot_be_enumerated_are_refused():
    with pytest.raises(ValueError, match="at most 2, got 5 and K = 1"):
        testing.unbiased(ELBO(), LinearGaussian(units=5, shape=(2,)), PAIR)
    with pytest.raises(ValueError, match="expected a module with latents"):
        testing.unbiased(ELBO(), AffineFlow(), REAL)
    with pytest.raises(ValueError, match="at most 20000 tuples"):
        testing.unbiased(NVIL(), SigmoidBeliefNetwork(latent_dims=(20,), shape=(2,)), PAIR)


def test_bijections():
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3)
    shear = jnp.array([[1.0, 0, 0], [0.5, 2, 0], [1, -1, 0.5]])

    def forward(x, log_det=0.0):
        return x @ shear.T, jnp.full(len(x), log_det)

    def inverse(z):
        return z @ jnp.linalg.inv(shear).T, jnp.zeros(len(z))

    testing.check_bijection(forward, inverse, x)
    with pytest.raises(testing.BatteryError, match=r"expected log_det\[0\] = 0, got 1"):
        testing.check_bijection(lambda x: forward(x, 1.0), inverse, x)
    with pytest.raises(testing.BatteryError, match=r"expected inverse\(forward\(x\)\)"):
        testing.check_bijection(forward, lambda z: z, x)
    with pytest.raises(testing.BatteryError, match="the log-determinant of the inverse"):
        testing.check_bijection(forward, lambda z: (inverse(z)[0], jnp.ones(len(z))), x)
    root = np.zeros((2, 3), np.float32)

    def kinked(x):  # finite, with a gradient of NaN at 0
        return x + 0 * jnp.sqrt(jnp.square(x)), jnp.zeros(len(x))

    with pytest.raises(testing.BatteryError, match="expected finite derivatives of z, got nan"):
        testing.check_bijection(kinked, lambda z: z, root)
    with pytest.raises(testing.BatteryError, match="expected finite gradients of log_det, got nan"):
        testing.check_bijection(lambda x: (x, jnp.sqrt(jnp.square(x)).sum(1)), lambda z: z, root)
    testing.check_autoregressive(lambda x: shear @ x, x, strict=False)
    with pytest.raises(testing.BatteryError, match="output 0 without a dependence on element 0"):
        testing.check_autoregressive(lambda x: shear @ x, x)
    with pytest.raises(testing.BatteryError, match="output 0 to depend on element 1"):
        testing.check_autoregressive(lambda x: shear @ x, x, order=(2, 1, 0), strict=False)
    with pytest.raises(testing.BatteryError, match="output 1 to depend on element 1"):
        testing.check_autoregressive(lambda x: jnp.stack([x[0], x[0], x[0]]), x, strict=False)


SOURCE = """
import numpy as np
from dgmzoo import Experiment, Training, from_arrays
from tests.support.user_entries import {name}

random = np.random.default_rng(0)
rows = {{"x": random.normal(size=(60, 2)) if {name}.__name__ == "AffineFlow" else random.integers(0, 2, {shape})}}
if {masked}:
    rows["mask"] = random.uniform(size=rows["x"].shape) < 0.7
rows["x"] = rows["x"].astype(np.float32)
experiment = Experiment(model={name}({broken!r}), data=from_arrays(rows), training=Training(epochs=1))
"""


@pytest.mark.parametrize(
    "module, batch, law",
    [pytest.param(*case, marks=[pytest.mark.thorough] * (case not in FIVE[:2])) for case in FIVE],
    ids=_id,
)
def test_the_command_checks_a_file(module, batch, law, tmp_path, capsys):
    name = type(module).__name__
    shape = (60, *batch["x"].shape[1:])
    for broken, status in (("", 0), (module.broken, 1)):
        file = tmp_path / f"entry{status}.py"
        file.write_text(SOURCE.format(name=name, shape=shape, masked="mask" in batch, broken=broken))
        assert run("check", str(file), "--only", f"shapes,{law}") == status
        shown = capsys.readouterr().out
        assert ("failed" in shown) == bool(status) and f"{name} at shape (" in shown and "skipped" not in shown


def test_the_command_shrinks_an_entry(capsys):
    assert run("check", "ddnn/digits_made", "--only", "shapes,total mass") == 0
    assert "MADE at shape (2, 2, 1)" in capsys.readouterr().out
    assert run("check", "ddnn/digits_made", "--only", "total mass", "--full-shape") == 0
    assert "2^64" in capsys.readouterr().out
