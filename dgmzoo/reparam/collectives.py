"""Means over a batch that may be spread over devices."""

import chex
import jax
import jax.numpy as jnp

DEVICES = "devices"  # the name of the device axis in training


def has_device_axis() -> bool:
    """Whether the device axis is bound here."""
    try:
        jax.lax.axis_index(DEVICES)
    except NameError:
        return False
    return True


def batch_mean(value: chex.Array, axis: int | tuple[int, ...] = 0) -> chex.Array:
    """Mean over `axis` and, when training runs on several devices, over all of them.

    Plain means suffice for a loss (gradients are averaged over devices anyway); this one is for where a nonlinearity or
    a state follows: free bits, moving averages, batch statistics.
    """
    mean = jnp.mean(value, axis)
    return jax.lax.pmean(mean, DEVICES) if has_device_axis() else mean


def batch_sum(value: chex.Array, axis: int | tuple[int, ...] = 0) -> chex.Array:
    """Sum over `axis` and, when training runs on several devices, over all of them."""
    total = jnp.sum(value, axis)
    return jax.lax.psum(total, DEVICES) if has_device_axis() else total
