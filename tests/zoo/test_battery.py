"""The battery: every zoo entry and every probe keeps the laws of `dgmzoo.testing`, and those of training.

Each entry goes once through the quick tests. Variants of entries, probes of their parts, trainings to the entropy, double precision, several
devices and several seeds are thorough.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo import testing
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.evaluation.prepared import prepare
from dgmzoo.model.contract import Query
from dgmzoo.training.checkpoint import Checkpoints
from dgmzoo.training.step import LOCAL, State
from tests.conftest import release_programs
from tests.support.subject import IMPORTANCE_SAMPLES, KEY, STEPS, Subject
from tests.zoo import cases_ddnn, cases_dvae, cases_flows, cases_pixels, cases_probes, cases_sockets, cases_vae

# A training dispatch shows in the quick tier that all parameters change.
SLOW_LAWS = {"compilation", "seeds", "gradients"}
QUICK_LAWS = set(testing.LAWS) - SLOW_LAWS
_FILES = (cases_vae, cases_dvae, cases_ddnn, cases_flows, cases_pixels, cases_probes, cases_sockets)
CASES = [case for file in _FILES for case in file.CASES]
_PARTS = (*cases_probes.CASES, *cases_sockets.CASES)  # parts of entries, which have quick tests of their own
PARAMS = [
    pytest.param(case, id=case.name, marks=[pytest.mark.thorough] if case.thorough or case in _PARTS else [])
    for case in CASES
]


@pytest.fixture(scope="module", params=PARAMS)
def subject(request):
    yield Subject(request.param)
    release_programs()


@pytest.fixture
def once_per_module(subject):
    """Skip what does not depend on the objective if another case of the same module proves it."""
    if subject.case.same_module_as:
        pytest.skip(f"the module is that of {subject.case.same_module_as}")


@pytest.mark.usefixtures("once_per_module")
def test_the_laws_of_the_public_battery(subject):
    testing.check(subject.case.module, subject.case.rows, objective=subject.case.objective, only=QUICK_LAWS)


@pytest.mark.thorough
def test_the_slow_laws_of_the_public_battery(subject):
    testing.check(subject.case.module, subject.case.rows, objective=subject.case.objective, only=SLOW_LAWS)


def test_training_changes_every_parameter(subject):
    before = jax.device_get(subject.init(jax.random.key(0), subject.batch).variables["params"])
    state, metrics = subject.first
    for path, old in jax.tree.leaves_with_path(before):
        new = functools.reduce(lambda tree, key: tree[key.key], path, state.variables["params"])
        assert np.isfinite(new).all(), jax.tree_util.keystr(path)
        assert (np.asarray(new) != old).any(), f"{jax.tree_util.keystr(path)} is unchanged"
    assert all(np.isfinite(value).all() and value.shape == (STEPS,) for value in metrics.values())
    assert {"loss", "elbo", "grad_norm"} <= set(metrics)


def test_two_dispatches_are_enough_to_compile(subject):
    state, rows = subject.start()
    for _ in range(2):
        state, _ = subject.dispatch(state, rows, subject.indices())
    before = subject.traces
    for _ in range(3):
        state, _ = subject.dispatch(state, rows, subject.indices())
    assert subject.traces == before
    assert int(state.step) == 5 * STEPS


def test_a_checkpoint_restores_the_state_to_the_bit(subject, tmp_path):
    state = jax.device_get(subject.first[0]._replace(key=None))._replace(key=jax.random.key(5))
    Checkpoints(tmp_path, keep=1).save(STEPS, state, {"progress": 1})
    template = jax.eval_shape(subject.pure_init, jax.random.key(0), subject.batch)
    restored = Checkpoints(tmp_path, keep=1).restore(template)
    assert (restored.step, restored.progress) == (STEPS, {"progress": 1})
    assert jax.tree.structure(restored.tree) == jax.tree.structure(state)
    for new, old in zip(*map(_leaves_with_key_data, (restored.tree, state)), strict=True):
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


def _leaves_with_key_data(state):
    return jax.tree.leaves(state._replace(key=np.asarray(jax.random.key_data(state.key))))


@pytest.mark.usefixtures("once_per_module")
def test_bad_input_is_refused(subject):
    wrong = {**subject.batch, "x": np.zeros((16, 3, 3), subject.batch["x"].dtype)}
    with pytest.raises(ValueError, match=r"expected x of shape .* got"):
        jax.eval_shape(subject.model.evidence, subject.variables, wrong, KEY)
    for fields in subject.case.refused_fields:
        with pytest.raises(ValueError, match=r"expected .* got"):
            subject.case.module.clone(**fields)
    with pytest.raises(ValueError, match="expected num_samples >= 1, got 0"):
        Query(0)


@pytest.mark.thorough
@pytest.mark.usefixtures("once_per_module")
def test_single_precision_agrees_with_double(subject):
    if np.issubdtype(subject.batch["x"].dtype, np.integer):
        pytest.skip("the network sees tokens in single precision")
    single, _ = subject.evidence(Query(3))
    given = {name: latent.sample for name, latent in single.latents.items()}
    arrays = jax.device_get((subject.variables, subject.batch, given))
    with jax.enable_x64(True):

        def widen(leaf):
            return jnp.asarray(leaf, float if np.issubdtype(leaf.dtype, np.floating) else leaf.dtype)

        variables, batch, given = jax.tree.map(widen, arrays)
        double, _ = jax.device_get(jax.jit(subject.model.evidence)(variables, batch, KEY, Query(3, given=given)))
    assert double.log_likelihood.dtype == np.float64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), single, double)


@pytest.mark.thorough
def test_seeds_under_vmap_equal_single_runs(subject):
    axes = State(step=None, key=0, variables=0, opt_state=0, ema=0)
    singles = [subject.init(jax.random.key(seed), subject.batch) for seed in range(2)]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles)._replace(step=singles[0].step)
    step = jax.jit(jax.vmap(subject.step, (axes, None), (axes, 0)))
    for index in subject.indices():
        states, _ = step(states, {name: leaf[index] for name, leaf in subject.batch.items()})
    for seed in range(2):
        single, _ = subject.run(seed=seed) if seed else subject.first
        jax.tree.map(
            lambda a, b, s=seed: np.testing.assert_allclose(a[s], b, rtol=1e-4, atol=2e-5),
            states.variables,
            single.variables,
        )


@pytest.mark.thorough
def test_two_devices_train_as_one(subject):
    stateful = set(subject.variables) != {"params"}
    if subject.case.noisy and not stateful and subject.case.name not in ("vae", "vae-bayes"):
        pytest.skip("each device draws noise of its own and averages nothing but gradients, as in vae and vae-bayes")
    one, one_metrics = subject.first
    two, two_metrics = subject.run(devices=2)
    shared = {name: tree for name, tree in two.variables.items() if name != LOCAL}
    for path, leaf in jax.tree.leaves_with_path((shared, two.opt_state, two.ema, two_metrics)):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == 2 and copies[0].shape == leaf.shape
        np.testing.assert_array_equal(*copies, err_msg=jax.tree_util.keystr(path))
    if not subject.case.noisy:
        of_one, of_two = (one.variables, one.ema, one_metrics), (two.variables, two.ema, two_metrics)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), of_one, of_two)


@pytest.mark.thorough
def test_training_reaches_the_entropy_of_the_rows(subject):
    case = subject.case
    variables = prepare(subject.model, subject.trained.variables, jax.random.key(6))
    estimate = evaluate(subject.model, variables, case.rows, jax.random.key(6), IMPORTANCE_SAMPLES)
    lowest = case.entropy if subject.model.bound else -np.inf
    error = np.sqrt(estimate.variance.sum()) / len(estimate.variance) if estimate.num_samples > 1 else 0.0
    assert lowest - 3 * error - 1e-4 < estimate.value < case.entropy + case.tolerance
