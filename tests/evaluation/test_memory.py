"""The memory of an evaluation (F35), and an evaluation that is resumed (F44)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dgmzoo
from dgmzoo.evaluation import log_likelihood, memory
from dgmzoo.evaluation.log_likelihood import batch_sizes, evaluate
from dgmzoo.evaluation.partial import PartialSums
from dgmzoo.model.contract import Evidence
from dgmzoo.model.functional import functional

KEY = jax.random.key(0)


class Wide(nn.Module):
    """A density whose intermediate array has `width` numbers for each example."""

    width: int
    bound = "exact"

    @nn.compact
    def evidence(self, batch, query):
        wide = nn.Dense(self.width)(batch["x"])
        return Evidence(-jnp.square(jnp.sin(wide) - wide).sum(-1)[None])


def sizes(width: int, **settings):
    model = functional(Wide(width))
    rows = {"x": np.zeros((1000, 3), np.float32)}
    variables = jax.eval_shape(model.init, KEY, {"x": jnp.zeros((2, 3))})
    return batch_sizes(model, variables, rows, KEY, None, 1, **settings)


def test_f35_a_batch_is_as_large_as_the_memory_budget_allows():
    assert sizes(100) == (250, 1)
    width = 10_000_000  # 40 MB an example: some four such arrays are live at once
    batch, _ = sizes(width)
    assert 2 <= batch <= memory.BUDGET // (4 * width)
    assert sizes(width, batch_size=7) == (7, 1)
    assert sizes(10 * memory.BUDGET)[0] == 1


def test_f35_arrays_count_while_they_are_used():
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    array = 64 * 64 * 4
    assert memory.live_bytes(lambda x: jnp.tanh(x @ x), x) == 2 * array  # the product, and its tanh
    assert memory.live_bytes(lambda x: jnp.tanh(jnp.tanh(jnp.tanh(x @ x))), x) == 2 * array

    def kept(x):
        first, second = x @ x, x.T @ x
        return first + jnp.tanh(second)

    assert memory.live_bytes(kept, x) == 3 * array
    assert memory.live_bytes(jax.jit(kept), x) >= 3 * array


def test_f35_a_loop_counts_as_one_iteration():
    def loop(x):
        return jax.lax.scan(lambda carry, _: (jnp.sin(jnp.outer(carry, carry)).sum(0), None), x, length=50)[0]

    once = memory.live_bytes(lambda x: jnp.sin(jnp.outer(x, x)).sum(0), jnp.zeros(300))
    assert once <= memory.live_bytes(loop, jnp.zeros(300)) <= 1.1 * once


def test_f35_the_option_sets_the_batch_and_keeps_a_density(monkeypatch):
    model, rows = functional(Wide(5)), {"x": np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3)}
    variables = model.init(KEY, {"x": jnp.zeros((2, 3))})
    whole = evaluate(model, variables, rows, KEY, 1)
    parts = evaluate(model, variables, rows, KEY, 1, batch_size=7)
    np.testing.assert_allclose(parts.per_example, whole.per_example, rtol=1e-6)
    with pytest.raises(ValueError, match=r"evaluation\.batch_size"):
        dgmzoo.Evaluation(batch_size=0)


def test_f44_an_evaluation_that_was_stopped_goes_on_with_the_same_numbers(tmp_path):
    model, rows = functional(Wide(5)), {"x": np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)}
    variables, done = model.init(KEY, {"x": jnp.zeros((2, 3))}), []
    whole = evaluate(model, variables, rows, KEY, 1, batch_size=2)

    def stop(count, num):
        if count >= 12:
            raise KeyboardInterrupt

    partial = tmp_path / "partial.npz"
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, variables, rows, KEY, 1, stop, batch_size=2, partial=PartialSums(partial, "a"))
    resumed = evaluate(
        model,
        variables,
        rows,
        KEY,
        1,
        lambda count, _: done.append(count),
        batch_size=2,
        partial=PartialSums(partial, "a"),
    )
    np.testing.assert_array_equal(resumed.per_example, whole.per_example)
    assert done[0] == 12  # six batches of two were not evaluated again
    other = PartialSums(partial, "b")
    assert other.rounds(jax.eval_shape(lambda: {"log_sum": jnp.zeros(2)})) == []  # of another model or data
    partial.write_bytes(partial.read_bytes()[:-40])
    assert PartialSums(partial, "a").rounds(jax.eval_shape(lambda: {"log_sum": jnp.zeros(2)})) == []


@pytest.mark.thorough
def test_f44_a_run_that_is_stopped_while_it_is_measured_goes_on(tmp_path, monkeypatch):
    changes = {"training.steps": 2, "evaluation.num_samples": 2, "evaluation.batch_size": 20}
    experiment = dgmzoo.experiment("vae/digits", changes)
    folder = tmp_path / "run"
    original, calls = log_likelihood._compiled, []

    def stopping(*arguments):
        compiled = original(*arguments)

        @dataclasses.dataclass
        class Counting:
            def __call__(self, *inputs):
                calls.append(1)
                if len(calls) == 10:  # one batch of the validation split, then eighteen of the test split
                    raise KeyboardInterrupt
                return compiled(*inputs)

        return jax.tree_util.Partial(Counting())

    whole = dgmzoo.train(experiment, progress=False)
    monkeypatch.setattr(log_likelihood, "_compiled", stopping)
    with pytest.raises(KeyboardInterrupt):
        dgmzoo.train(experiment, folder, progress=False)
    assert list(folder.glob("partial-test-*.npz"))
    run = dgmzoo.train(experiment, folder, progress=False)
    assert run.record["value"] == whole.record["value"] and not list(folder.glob("partial*"))
