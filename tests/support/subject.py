"""A case of the battery with its compiled functions and its trainings, which all tests of the case share."""

import functools

import jax
import numpy as np
import optax

from dgmzoo.model.contract import Evidence, Query
from dgmzoo.model.functional import functional
from dgmzoo.training.devices import compile_dispatch, init_on, place
from dgmzoo.training.step import State, make_init, make_step
from tests.support.case import Case

STEPS = 10  # of one dispatch
KEY = jax.random.key(3)
IMPORTANCE_SAMPLES = 5000  # of one evaluation; other numbers would compile another program


class Subject:
    """The functions of a case, compiled once."""

    def __init__(self, case: Case):
        self.case, self.model, self.batch = case, functional(case.module), dict(case.rows)
        # Momentum is linear in the gradient, so a wrong factor in the gradient shows; Adam would hide it. Steps shrink in
        # the second half, so that the end of a training does not depend on how a machine rounds.
        rate = optax.linear_schedule(case.learning_rate, 0.0, case.steps // 2, transition_begin=case.steps // 2)
        own = case.objective.optimizers()
        optimizer = optax.multi_transform(
            {"model": optax.sgd(rate, momentum=0.9), **own},
            lambda params: {name: name if name in own else "model" for name in params},
        )
        self.traces = 0
        self.pure_init = make_init(self.model, case.objective, optimizer, self.observe, ema=True)
        pure_step = make_step(self.model, case.objective, optimizer, self.observe, case.num_data, 0.9)

        def step(state, rows):
            self.traces += 1
            return pure_step(state, rows)

        self.step = step
        self.init = jax.jit(self.pure_init)
        self.dispatch = compile_dispatch(step, jax.devices()[:1])
        self.compiled_evidence = jax.jit(self.model.evidence)
        self.generate = jax.jit(self.model.generate, static_argnums=2) if self.model.generate else None

    @staticmethod
    def observe(key, rows):
        return dict(rows)

    @functools.cached_property
    def variables(self):
        """Variables that are prepared for evaluation, with parameters large enough that no distribution is near uniform."""
        variables = jax.device_get(self.init(jax.random.key(0), self.batch).variables)
        random = np.random.default_rng(1)

        def enlarge(path, leaf):
            if "posterior_head" in (name := jax.tree_util.keystr(path)) or "['q']" in name:
                return leaf / 10  # the posterior stays wide, so that importance samples cover the true posterior
            return random.normal(0, 0.6, leaf.shape).astype(leaf.dtype)

        variables = {**variables, "params": jax.tree.map_with_path(enlarge, variables["params"])}
        return jax.jit(self.model.prepare)(variables, jax.random.key(2)) if self.model.prepare else variables

    def evidence(self, query: Query) -> tuple[Evidence, dict]:
        """Evidence of the batch on the host, always with the same key, and the updates."""
        return jax.device_get(self.compiled_evidence(self.variables, self.batch, KEY, query))

    def indices(self) -> np.ndarray:
        """Row numbers `[STEPS, 16]` of one dispatch: each batch is the whole set in an order of its own."""
        random = np.random.default_rng(0)
        return np.stack([random.permutation(16) for _ in range(STEPS)]).astype(np.int32)

    def start(self, devices: int = 1, seed: int = 0) -> tuple[State, dict]:
        """A fresh state and the rows, placed where training places them, because another placement recompiles."""
        chosen = jax.devices()[:devices]
        state = init_on(self.pure_init, jax.random.key(seed), self.batch, chosen)
        return state, place(self.batch, chosen)

    def run(self, devices: int = 1, seed: int = 0) -> tuple[State, dict]:
        """State and metrics after one dispatch from a fresh state."""
        dispatch = self.dispatch if devices == 1 else compile_dispatch(self.step, jax.devices()[:devices])
        return dispatch(*self.start(devices, seed), self.indices())

    @functools.cached_property
    def first(self) -> tuple[State, dict]:
        """`run()` once, for tests that do not consume its buffers."""
        return self.run()

    @functools.cached_property
    def trained(self) -> State:
        """The state after all steps of the case."""
        state, rows = self.start()
        for _ in range(self.case.steps // STEPS):
            state, _ = self.dispatch(state, rows, self.indices())
        return state
