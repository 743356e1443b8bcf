"""How fast an experiment trains and is measured on this machine, beside its matrix products alone."""

import contextlib
import functools
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo import data
from dgmzoo.config import overrides
from dgmzoo.config.experiment import Experiment
from dgmzoo.config.preflight import resolve
from dgmzoo.data.fetch_progress import told
from dgmzoo.evaluation.log_likelihood import evaluate, examples_per_batch
from dgmzoo.model.contract import Query
from dgmzoo.training import devices
from dgmzoo.training.loop import as_trained, fit
from dgmzoo.training.optimizer import build
from dgmzoo.training.step import make_init, make_step

_IW_SAMPLES, _IW_FEW, _IW_EXAMPLES, _IW_SECONDS = 1000, 50, 100, 2.0


def bench(experiment: Experiment, epochs: int = 5, profile: Path | None = None) -> dict[str, Any]:
    """Figures of an experiment on this machine.

    Args:
      epochs: timed after a first one that compiles; validation, checkpoints and the final measurement are left out.
      profile: folder for a JAX trace of one epoch more (open it with TensorBoard or Perfetto).

    Returns:
      `seconds_per_epoch` (median), `steps_per_second`, `compile_seconds` (first epoch less a later one),
      `matmul_share` (time of a step's matrix products alone over the step's own, 0 to 1; None where it has none),
      `memory_bytes` (peak of the device, or of the process on CPU),
      `iw_samples_per_second` and `iw_matmul_share` (the same of the importance-weighted evaluation; None where exact).
      Convolutions do not count as matrix products.
    """
    num = epochs + 2
    whole = {"training.epochs": num, "training.validate_epochs": num, "training.patience": None}
    exp = overrides.override(experiment, whole)
    with told() as (log, fetching):
        dataset = data.load(exp.data, log, fetching)
    model = resolve(exp, dataset).model
    clock = _Clock(epochs + 1, profile)
    fitted = fit(exp, model, dataset, 0, clock)
    seconds = statistics.median(clock.epochs[1 : epochs + 1])
    steps = exp.training.steps_per_epoch(len(dataset.splits["train"]["x"]))
    alone_there = len(devices.choose_devices(exp.training.micro_batch_size)) == 1
    products = products_of_step(exp, model, dataset) if alone_there else []
    alone = seconds_of_products(products, repeats=min(steps, 200)) if products else None
    samples = share = None
    if model.bound == "elbo":
        rows = dataset.fixed("test", max(_IW_EXAMPLES, examples_per_batch(_IW_FEW)))
        samples, share = _importance_sampling(model, fitted.variables, rows)
    return {
        "seconds_per_epoch": seconds,
        "steps_per_second": steps / seconds,
        "compile_seconds": max(0.0, clock.epochs[0] - seconds),
        "matmul_share": None if alone is None else alone * steps / seconds,
        "memory_bytes": _peak_memory(),
        "iw_samples_per_second": samples,
        "iw_matmul_share": share,
    }


def _importance_sampling(model, variables, rows) -> tuple[float, float | None]:
    """Samples a second, and the time of the matrix products alone over the whole."""

    def asked(num: int) -> None:
        evaluate(model, variables, rows, jax.random.key(0), num, devices=jax.local_devices()[:1])

    # Large decoders are asked for fewer samples, so that this takes seconds.
    (once,) = _seconds(lambda: asked(_IW_FEW))
    num = _IW_FEW * max(1, min(_IW_SAMPLES // _IW_FEW, int(_IW_SECONDS / once)))
    samples, size = len(rows["x"]) * num, examples_per_batch(_IW_FEW)
    part = {name: leaf[np.arange(size) % len(leaf)] for name, leaf in rows.items()}
    ask = functools.partial(model.evidence, query=Query(_IW_FEW))
    products = list(_products(jax.make_jaxpr(ask)(variables, part, jax.random.key(0)).jaxpr, 1))
    if not products:
        (spent,) = _seconds(lambda: asked(num))
        return samples / spent, None
    parts = -(-len(rows["x"]) // size)
    alone = program_of_products(products, repeats=parts * num // _IW_FEW)
    spent, spent_alone = _seconds(lambda: asked(num), alone)
    return samples / spent, spent_alone / spent


def bench_layers(experiment: Experiment, layers: Sequence[str], rounds: int = 30, steps: int = 50) -> dict[str, dict]:
    """Training steps of the experiment with each of some variational layers, in turns, so that load falls on all alike.

    Args:
      layers: names (`normal`, `horseshoe`, ...) for `model.latent`; the first is what the others are compared with.
      rounds: times that each layer is timed, over `steps` steps.

    Returns:
      layer -> `seconds_per_step` (median over rounds), `ratio` (to the first layer's), `compile_seconds` of its training
      program, and `layer_compile_seconds` (of the processor) of the layer alone: sample, KL and their gradient.
    """
    programs = {}
    one_part = overrides.override(experiment, {"training.accumulate": 1})
    variants = {name: overrides.override(one_part, {"model.latent": name}) for name in layers}
    for name, exp in variants.items():
        with told() as (log, fetching):
            dataset = data.load(exp.data, log, fetching)
        model, rows = resolve(exp, dataset).model, dataset.splits["train"]
        optimizer = build(exp.training, 1000, exp.objective.optimizers())
        init = make_init(model, exp.objective, optimizer, dataset.observe, ema=exp.training.ema is not None)
        trained = as_trained(exp, model)
        step = make_step(trained, exp.objective, optimizer, dataset.observe, len(rows["x"]), exp.training.ema)
        rows = {key: jnp.asarray(leaf[:10_000]) for key, leaf in rows.items()}
        indices = jax.random.randint(jax.random.key(1), (steps, exp.training.batch_size), 0, len(rows["x"]))
        state = jax.jit(init)(jax.random.key(0), {key: leaf[:2] for key, leaf in rows.items()})
        dispatch = devices.compile_dispatch(step, jax.local_devices()[:1])
        start = time.perf_counter()
        compiled = dispatch.lower(state, rows, indices).compile()
        spent = time.perf_counter() - start
        state, _ = jax.block_until_ready(compiled(state, rows, indices))
        programs[name] = [state, rows, indices, compiled, spent, seconds_to_compile(exp)]
    seconds = {name: [] for name in layers}
    for _ in range(rounds):
        for name, program in programs.items():
            state, rows, indices, compiled, *_ = program
            start = time.perf_counter()
            program[0], _ = jax.block_until_ready(compiled(state, rows, indices))
            seconds[name].append((time.perf_counter() - start) / steps)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        name: {
            "seconds_per_step": median[name],
            "ratio": median[name] / median[layers[0]],
            "compile_seconds": programs[name][4],
            "layer_compile_seconds": programs[name][5],
        }
        for name in layers
    }


def seconds_to_compile(exp: Experiment) -> float:
    """Processor seconds to compile the experiment's layer of latents alone: a sample, the KL, and their gradient."""
    layer = exp.model.latent.clone(units=20)
    features, query = jnp.zeros((exp.training.batch_size, 200)), Query(train=True)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    variables = jax.jit(lambda rngs, features: layer.init(rngs, features, query, "z"))(rngs, features)

    @jax.jit
    def gradient(variables, features, key):
        def loss(variables, features):
            latent = layer.apply(variables, features, query, "z", rngs={"sample": key})
            return jnp.square(latent.value).sum() + latent.kl.sum() + latent.log_p.sum() - latent.log_q.sum()

        return jax.grad(loss, (0, 1))(variables, features)

    start = time.process_time()
    gradient.lower(variables, features, jax.random.key(0)).compile()
    return time.process_time() - start


class _Clock:
    """A watcher that times epochs, and traces the last."""

    def __init__(self, last: int, profile: Path | None):
        self.epochs: list[float] = []
        self.last, self.profile = last, profile

    def begin(self, step: int, total: int) -> None:
        self.start = time.perf_counter()

    def write(self, row: dict[str, Any]) -> None:
        now = time.perf_counter()
        self.epochs.append(now - self.start)
        if self.profile and len(self.epochs) == self.last:
            jax.profiler.start_trace(str(self.profile))
        elif self.profile and len(self.epochs) == self.last + 1:
            jax.profiler.stop_trace()
        self.start = time.perf_counter()

    def progress(self, step: int, total: int, latest) -> None: ...

    def should_stop(self) -> bool:
        return False


Product = tuple[tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct], dict[str, Any], int]


def products_of_step(exp: Experiment, model, dataset) -> list[Product]:
    """Shapes, parameters and number of the matrix products in one training step, forward and backward."""
    rows = dataset.splits["train"]
    batch = {
        name: jax.ShapeDtypeStruct((exp.training.batch_size, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in rows.items()
    }
    optimizer = build(exp.training, 1, exp.objective.optimizers())
    init = make_init(model, exp.objective, optimizer, dataset.observe, ema=False)
    accumulate = exp.training.accumulate
    step = make_step(
        as_trained(exp, model), exp.objective, optimizer, dataset.observe, len(rows["x"]), None, accumulate
    )
    state = jax.eval_shape(init, jax.random.key(0), batch)
    return list(_products(jax.make_jaxpr(step)(state, batch).jaxpr, 1))


def _products(jaxpr, times: int) -> Iterator[Product]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = tuple(jax.ShapeDtypeStruct(each.aval.shape, each.aval.dtype) for each in equation.invars)
            yield shapes, equation.params, times
        inner = times * equation.params.get("length", 1) if equation.primitive.name == "scan" else times
        for value in equation.params.values():
            for each in value if isinstance(value, list | tuple) else [value]:
                if hasattr(each, "eqns"):
                    yield from _products(each, inner)
                elif hasattr(getattr(each, "jaxpr", None), "eqns"):
                    yield from _products(each.jaxpr, inner)


def seconds_of_products(products: Sequence[Product], repeats: int) -> float:
    """Seconds that the products take once, from `repeats` rounds inside one program."""
    return _seconds(program_of_products(products, repeats))[0] / repeats


def program_of_products(products: Sequence[Product], repeats: int) -> Callable[[], Any]:
    """What computes the products and nothing else, `repeats` times."""
    left = [jnp.ones(shapes[0].shape, shapes[0].dtype) for shapes, _, _ in products]
    right = [jnp.ones(shapes[1].shape, shapes[1].dtype) for shapes, _, _ in products]

    @jax.jit
    def run(left):
        def once(left, _):
            changed = []
            for a, b, (_, parameters, times) in zip(left, right, products, strict=True):
                for _ in range(times):
                    # One element of the result goes back into the operand, so that the whole is computed in turn.
                    out = jax.lax.optimization_barrier(jax.lax.dot_general_p.bind(a, b, **parameters))
                    a = a.at[(0,) * a.ndim].set(jnp.minimum(out[(0,) * out.ndim].astype(a.dtype), 1))
                changed.append(a)
            return changed, None

        return jax.lax.scan(once, left, length=repeats)[0]

    return lambda: jax.block_until_ready(run(left))


def _seconds(*calls: Callable) -> list[float]:
    """The median of three of each, in turns so that load falls on all alike, after one that compiles."""
    spent = [[] for _ in calls]
    for i in range(4):
        for call, each in zip(calls, spent, strict=True):
            start = time.perf_counter()
            call()
            if i:
                each.append(time.perf_counter() - start)
    return [statistics.median(each) for each in spent]


def _peak_memory() -> int:
    with contextlib.suppress(Exception):  # devices that keep no count
        return int(jax.local_devices()[0].memory_stats()["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
