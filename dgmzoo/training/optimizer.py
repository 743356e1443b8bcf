"""Optimizers and learning-rate schedules from an experiment's training settings."""

from collections.abc import Mapping

import jax.numpy as jnp
import optax

from dgmzoo.config.training import Training


def build(
    training: Training, total_steps: int, others: Mapping[str, optax.GradientTransformation]
) -> optax.GradientTransformation:
    """The optimizer of the model's parameters, and `others` for top-level names of their own.

    Args:
      total_steps: length of the run, which schedules other than "constant" span.
    """
    rate = schedule(training, total_steps)
    match training.optimizer:
        case "adam":
            main = optax.adam(rate, b1=training.b1, eps=training.epsilon)
        case "adamax":
            main = optax.adamax(rate, b1=training.b1, eps=training.epsilon)
        case "adagrad":
            main = optax.adagrad(rate)
        case "sgd":
            main = optax.sgd(rate)
    if training.clip_norm is not None:
        main = optax.chain(optax.clip_by_global_norm(training.clip_norm), main)
    if not others:
        return main
    return optax.multi_transform(
        {"model": main, **others},
        lambda params: {name: name if name in others else "model" for name in params},
    )


def schedule(training: Training, total_steps: int) -> optax.Schedule | float:
    """Learning rate by step."""
    first, last = training.learning_rate, training.final_learning_rate
    match training.schedule:
        case "constant":
            return first
        case "cosine":
            return optax.cosine_decay_schedule(first, total_steps, alpha=last / first)
        case "burda":
            return burda(first, total_steps)


def burda(first: float, total_steps: int) -> optax.Schedule:
    """Eight stages i = 0..7 of 3^i parts each, at `first * 10^(-i/7)`.

    Source: Burda et al. 2016 (arXiv 1509.00519), section 5, where a part is one epoch: 3280 in all. A shorter run keeps
    the stages' proportions.
    """
    parts = [3**i for i in range(8)]
    ends = [round(total_steps * sum(parts[: i + 1]) / sum(parts)) for i in range(8)]

    def rate(step):
        stage = jnp.searchsorted(jnp.asarray(ends[:-1]), step, side="right")
        return first * 10.0 ** (-stage.astype(jnp.float32) / 7)

    return rate
