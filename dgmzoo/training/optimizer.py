"""Optimizers and learning-rate schedules from an experiment's training settings."""

from collections.abc import Mapping

import jax.numpy as jnp
import optax

from dgmzoo.config.training import Training


def build(
    training: Training, total_steps: int, other_optimizers: Mapping[str, optax.GradientTransformation]
) -> optax.GradientTransformation:
    """The optimizer of a training.

    Args:
      total_steps: length of the run, over which the schedule extends.
      other_optimizers: top-level name of parameters -> their optimizer, for parameters of the objective.

    >>> optimizer = build(Training(steps=10, optimizer="sgd", learning_rate=0.5), 10, {})
    >>> state = optimizer.init({"w": jnp.ones(2)})
    >>> updates, _ = optimizer.update({"w": jnp.ones(2)}, state)
    >>> updates["w"].tolist()
    [-0.5, -0.5]
    """
    learning_rate = schedule(training, total_steps)
    match training.optimizer:
        case "adam":
            optimizer = optax.adam(learning_rate, b1=training.b1, eps=training.epsilon)
        case "adamax":
            optimizer = optax.adamax(learning_rate, b1=training.b1, eps=training.epsilon)
        case "adagrad":
            optimizer = optax.adagrad(learning_rate)
        case "sgd":
            optimizer = optax.sgd(learning_rate)
    if training.clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(training.clip_norm), optimizer)
    if not other_optimizers:
        return optimizer
    return optax.multi_transform(
        {"model": optimizer, **other_optimizers},
        lambda params: {name: name if name in other_optimizers else "model" for name in params},
    )


def schedule(training: Training, total_steps: int) -> optax.Schedule | float:
    """Learning rate as a function of the step, or as a constant.

    >>> schedule(Training(steps=10, learning_rate=0.5), 10)
    0.5
    """
    first, last = training.learning_rate, training.final_learning_rate
    match training.schedule:
        case "constant":
            return first
        case "cosine":
            return optax.cosine_decay_schedule(first, total_steps, alpha=last / first)
        case "burda":
            return burda(first, total_steps)


def burda(first: float, total_steps: int) -> optax.Schedule:
    """Schedule of Burda et al.: stages i = 0..7 of 3^i units of time each, at a rate of `first * 10^(-i/7)`.

    In the paper a unit is one epoch, 3280 epochs in all; here the units fill `total_steps`.
    Source: Burda et al. 2016 (arXiv 1509.00519), section 5.

    >>> f"{burda(1e-3, total_steps=3280)(3279):.1e}"
    '1.0e-04'
    """
    units = [3**i for i in range(8)]
    ends = [round(total_steps * sum(units[: i + 1]) / sum(units)) for i in range(8)]

    def learning_rate(step):
        stage = jnp.searchsorted(jnp.asarray(ends[:-1]), step, side="right")
        return first * 10.0 ** (-stage.astype(jnp.float32) / 7)

    return learning_rate
