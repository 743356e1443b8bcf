"""`batch_mean`: average over the rows of all devices; `batch_sum`: sum over them; `batch_gather`: collect them."""

import chex
import jax
import jax.numpy as jnp

DEVICES = "devices"  # the name of the device axis in training


def has_device_axis() -> bool:
    """True inside a `pmap` over the device axis.

    >>> has_device_axis()
    False
    """
    try:
        jax.lax.axis_index(DEVICES)
    except NameError:
        return False
    return True


def batch_mean(value: chex.Array, axis: int | tuple[int, ...] = 0) -> chex.Array:
    """Mean over `axis` and, if training runs on several devices, over all devices.

    A loss needs only the local mean, because gradients are averaged over devices. Use this function if a nonlinear
    function or a state follows: free bits, moving averages, batch statistics.

    >>> float(batch_mean(jnp.array([1.0, 3.0])))
    2.0
    """
    mean = jnp.mean(value, axis)
    return jax.lax.pmean(mean, DEVICES) if has_device_axis() else mean


def batch_sum(value: chex.Array, axis: int | tuple[int, ...] = 0) -> chex.Array:
    """Sum over `axis` and, if training runs on several devices, over all devices.

    >>> float(batch_sum(jnp.array([1.0, 3.0])))
    4.0
    """
    total = jnp.sum(value, axis)
    return jax.lax.psum(total, DEVICES) if has_device_axis() else total


def batch_gather(value: chex.Array) -> chex.Array:
    """The rows `[B, ...]` of all devices, `[devices * B, ...]`; the same array on one device.

    The gradient of a loss of all rows is right: that of each device's rows is summed over the losses of all devices.

    >>> batch_gather(jnp.array([1.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    return jax.lax.all_gather(value, DEVICES, tiled=True) if has_device_axis() else value
