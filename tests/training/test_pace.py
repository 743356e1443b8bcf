"""One program serves dispatches of every size with the same bits, and their size follows the time of a step (F34)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dgmzoo import ELBO, MLP, VAE
from dgmzoo.model.functional import functional
from dgmzoo.training import pace
from dgmzoo.training.devices import compile_dispatch, init_on, place, stack_seeds, to_host
from dgmzoo.training.step import make_init, make_step

ROWS = {"x": np.random.default_rng(0).integers(0, 2, (40, 4)).astype(np.float32)}
INDICES = np.random.default_rng(1).integers(0, 40, (21, 8)).astype(np.int32)


@pytest.mark.parametrize("num_devices, num_seeds", [(1, 1), (2, 1), (1, 2)], ids=["one", "pmap", "vmap"])
def test_f34_dispatches_of_1_7_and_all_steps_give_the_same_bits(num_devices, num_seeds):
    model, objective = functional(VAE(2, encoder=MLP((4,)), decoder=MLP((4,)), shape=(4,))), ELBO()
    devices, optimizer = jax.devices()[:num_devices], optax.adam(1e-2)
    init = make_init(model, objective, optimizer, lambda key, rows: rows, ema=False)
    step = make_step(model, objective, optimizer, lambda key, rows: rows, num_data=40, ema=None)
    dispatch = compile_dispatch(step, devices, num_seeds=num_seeds)
    rows, indices = place(ROWS, devices), INDICES if num_seeds == 1 else np.stack([INDICES, INDICES[::-1]], 1)

    def train(size):
        states = [init_on(init, jax.random.key(seed), ROWS, devices) for seed in range(num_seeds)]
        state = stack_seeds(states, devices)
        losses = []
        for start in range(0, 21, size):
            padded = np.zeros_like(indices)
            padded[:size] = indices[start : start + size]
            state, metrics = dispatch(state, rows, padded, size)
            losses.append(np.asarray(metrics["loss"])[:size])
            assert not np.asarray(metrics["loss"])[size:].any()
        return to_host(state), np.concatenate(losses)

    (whole, losses), *others = (train(size) for size in (21, 7, 1))
    for state, own in others:
        np.testing.assert_array_equal(own, losses)
        jax.tree.map(np.testing.assert_array_equal, state.variables, whole.variables)


class Clock:
    """A stopwatch that says the seconds it was given."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.mark.parametrize("seconds, size, waits", [(0.001, 50, False), (0.1, 5, False), (6.0, 1, True)])
def test_f34_a_dispatch_takes_about_half_a_second(monkeypatch, seconds, size, waits):
    monkeypatch.setattr(pace, "Stopwatch", Clock)
    chosen = pace.Pace(most=50)
    assert chosen.next_size() == 1 and chosen.waits
    Clock.seconds = 30.0  # compilation
    chosen.measure(1)
    assert chosen.next_size() == 1 and chosen.waits
    Clock.seconds = seconds
    chosen.measure(1)
    assert chosen.next_size() == size and chosen.waits == waits


def test_the_loss_is_that_of_a_step_beyond_the_first():
    """Zeros beyond the size are no metrics."""
    dispatch = compile_dispatch(lambda state, rows: (state + 1, {"loss": rows["x"].sum()}), jax.devices()[:1])
    state, metrics = dispatch(jnp.int32(0), {"x": jnp.ones(3)}, jnp.zeros((4, 2), jnp.int32), 3)
    assert int(state) == 3 and metrics["loss"].tolist() == [2.0, 2.0, 2.0, 0.0]
