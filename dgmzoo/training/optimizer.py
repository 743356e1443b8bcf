"""`build`: make the optax optimizer from training settings; `schedule`: the learning rate as a function of the step."""

from collections.abc import Mapping

import jax.numpy as jnp
import optax

from dgmzoo.config.training import Training


def build(
    training: Training, total_steps: int, other_optimizers: Mapping[str, optax.GradientTransformation]
) -> optax.GradientTransformation:
    """The optimizer of a training: clipping of the gradient, then the named optimizer or the experiment's own function.

    Weight decay is decoupled: after the optimizer's own scaling, a share of the parameters is added to the direction, and
    the learning rate multiplies both. Adam with it is AdamW.

    Source of decoupled weight decay: Loshchilov & Hutter 2019 (arXiv 1711.05101), algorithm 2.

    Args:
      total_steps: length of the run, over which the schedule extends.
      other_optimizers: top-level name of parameters -> their optimizer, for parameters of the objective.

    >>> optimizer = build(Training(steps=10, optimizer="sgd", learning_rate=0.5), 10, {})
    >>> state = optimizer.init({"w": jnp.ones(2)})
    >>> updates, _ = optimizer.update({"w": jnp.ones(2)}, state)
    >>> updates["w"].tolist()
    [-0.5, -0.5]
    """
    if callable(training.optimizer):
        optimizer = training.optimizer(total_steps)
    else:
        optimizer = _named(training, schedule(training, total_steps))
    if training.clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(training.clip_norm), optimizer)
    if not other_optimizers:
        return optimizer
    return optax.multi_transform(
        {"model": optimizer, **other_optimizers},
        lambda params: {name: name if name in other_optimizers else "model" for name in params},
    )


def _named(training: Training, learning_rate: optax.Schedule | float) -> optax.GradientTransformation:
    if training.weight_decay:
        directions = {
            "adam": lambda: optax.scale_by_adam(b1=training.b1, eps=training.epsilon),
            "adamax": lambda: optax.scale_by_adamax(b1=training.b1, eps=training.epsilon),
            "adagrad": optax.scale_by_rss,
            "sgd": optax.identity,
        }
        return optax.chain(
            directions[training.optimizer](),
            optax.add_decayed_weights(training.weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )
    match training.optimizer:
        case "adam":
            return optax.adam(learning_rate, b1=training.b1, eps=training.epsilon)
        case "adamax":
            return optax.adamax(learning_rate, b1=training.b1, eps=training.epsilon)
        case "adagrad":
            return optax.adagrad(learning_rate)
        case "sgd":
            return optax.sgd(learning_rate)


def schedule(training: Training, total_steps: int) -> optax.Schedule | float:
    """Learning rate as a function of the step, or as a constant.

    >>> schedule(Training(steps=10, learning_rate=0.5), 10)
    0.5
    """
    first, last = training.learning_rate, training.final_learning_rate
    match training.schedule:
        case "constant":
            rate = first
        case "cosine":
            rate = optax.cosine_decay_schedule(first, total_steps, alpha=last / first)
        case "burda":
            rate = burda(first, total_steps)
    return warmed_up(rate, training.warmup_steps) if training.warmup_steps else rate


def warmed_up(rate: optax.Schedule | float, warmup_steps: int) -> optax.Schedule:
    """A schedule times a factor that rises linearly, to 1 in the last of the first `warmup_steps` steps.

    >>> [float(warmed_up(1.0, warmup_steps=4)(step)) for step in (0, 1, 3, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """

    def learning_rate(step):
        factor = jnp.minimum(1.0, (jnp.asarray(step, jnp.float32) + 1) / warmup_steps)
        return factor * (rate(step) if callable(rate) else rate)

    return learning_rate


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
