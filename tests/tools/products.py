"""The matrix products of a training step or of an evaluation, run alone: a bound on how fast either can be.

Convolutions do not count as matrix products.
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.config.experiment import Experiment
from dgmzoo.data import Dataset
from dgmzoo.evaluation.log_likelihood import evaluate, examples_per_batch
from dgmzoo.model.contract import Model, Query, Variables
from dgmzoo.training.optimizer import build
from dgmzoo.training.step import make_init, make_step
from dgmzoo.training.training_model import training_model

_CHUNK = 50  # samples that the evaluation computes at once


class Product(NamedTuple):
    """A `dot_general` in a program."""

    operands: tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]
    parameters: dict[str, Any]  # of the primitive
    times: int  # number of executions, more than 1 inside a scan


def products_of_step(experiment: Experiment, model: Model, dataset: Dataset) -> list[Product]:
    """The matrix products of one training step, forward and backward."""
    training, objective, rows = experiment.training, experiment.objective, dataset.splits["train"]
    batch = {
        name: jax.ShapeDtypeStruct((training.batch_size, *leaf.shape[1:]), leaf.dtype) for name, leaf in rows.items()
    }
    optimizer = build(training, 1, objective.optimizers())
    init = make_init(model, objective, optimizer, dataset.observe, ema=False)
    step = make_step(
        training_model(experiment, model, len(rows["x"])),
        objective,
        optimizer,
        dataset.observe,
        len(rows["x"]),
        None,
        training.accumulate,
    )
    state = jax.eval_shape(init, jax.random.key(0), batch)
    return list(_products(jax.make_jaxpr(step)(state, batch).jaxpr, 1))


def products_of_evidence(
    model: Model, variables: Variables, batch: Mapping[str, np.ndarray], num_samples: int
) -> list[Product]:
    """The matrix products of one call of `evidence`."""
    evidence = functools.partial(model.evidence, query=Query(num_samples))
    return list(_products(jax.make_jaxpr(evidence)(variables, batch, jax.random.key(0)).jaxpr, 1))


def _products(jaxpr, times: int) -> Iterator[Product]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            operands = tuple(jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in equation.invars)
            yield Product(operands, equation.params, times)
        inner_times = times * equation.params.get("length", 1) if equation.primitive.name == "scan" else times
        for parameter in equation.params.values():
            for value in parameter if isinstance(parameter, list | tuple) else [parameter]:
                if hasattr(value, "eqns"):
                    yield from _products(value, inner_times)
                elif hasattr(getattr(value, "jaxpr", None), "eqns"):
                    yield from _products(value.jaxpr, inner_times)


def seconds_of_products(products: Sequence[Product], repeats: int) -> float:
    """Seconds for all of the products once, averaged over `repeats` rounds inside one program."""
    return median_seconds(program_of_products(products, repeats))[0] / repeats


def program_of_products(products: Sequence[Product], repeats: int) -> Callable[[], Any]:
    """A compiled program that computes the products and nothing else, `repeats` times."""
    left = [jnp.ones(operands[0].shape, operands[0].dtype) for operands, _, _ in products]
    right = [jnp.ones(operands[1].shape, operands[1].dtype) for operands, _, _ in products]

    @jax.jit
    def run(left):
        def run_once(left, _):
            changed = []
            for a, b, (_, parameters, times) in zip(left, right, products, strict=True):
                for _ in range(times):
                    # An element of the result enters the next operand, so that no product can be skipped or hoisted.
                    out = jax.lax.optimization_barrier(jax.lax.dot_general_p.bind(a, b, **parameters))
                    a = a.at[(0,) * a.ndim].set(jnp.minimum(out[(0,) * out.ndim].astype(a.dtype), 1))
                changed.append(a)
            return changed, None

        return jax.lax.scan(run_once, left, length=repeats)[0]

    return lambda: jax.block_until_ready(run(left))


def evaluation_ratio(
    model: Model, variables: Variables, rows: Mapping[str, np.ndarray], num_samples: int = 1000, seconds: float = 2.0
) -> float:
    """Time of an importance-weighted evaluation of the rows, over that of its matrix products alone.

    Args:
      num_samples: samples per example at most.
      seconds: limit of the time of one evaluation, for which large decoders use fewer samples.
    """

    def run(num: int) -> None:
        evaluate(model, variables, rows, jax.random.key(0), num, devices=jax.local_devices()[:1])

    (chunk_seconds,) = median_seconds(lambda: run(_CHUNK))
    num = _CHUNK * max(1, min(num_samples // _CHUNK, int(seconds / chunk_seconds)))
    size = examples_per_batch(_CHUNK)
    batch = {name: leaf[np.arange(size) % len(leaf)] for name, leaf in rows.items()}
    num_batches = -(-len(rows["x"]) // size)
    products = products_of_evidence(model, variables, batch, _CHUNK)
    products_alone = program_of_products(products, repeats=num_batches * num // _CHUNK)
    whole, alone = median_seconds(lambda: run(num), products_alone)
    return whole / alone


def median_seconds(*calls: Callable[[], Any]) -> list[float]:
    """The median of three times of each call, taken in turns, after a first one that compiles."""
    seconds: list[list[float]] = [[] for _ in calls]
    for i in range(4):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if i:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]
