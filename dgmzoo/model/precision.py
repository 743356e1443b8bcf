"""The dtype in which dense layers multiply: the one ambient value of a call."""

import contextvars
import functools

import jax.numpy as jnp

from dgmzoo.model.contract import Model

_COMPUTE: contextvars.ContextVar = contextvars.ContextVar("compute", default=None)


def compute_dtype() -> jnp.dtype | None:
    """The dtype in which dense layers multiply, set by `in_precision`; None for that of their input and parameters.

    Parameters stay in float32, and so do densities: heads cast up what they are given (`families.at_least_float32`).
    """
    return _COMPUTE.get()


def in_precision(model: Model, dtype: jnp.dtype) -> Model:
    """The model with its networks' products computed in another dtype, such as bfloat16."""

    def wrapped(function):
        @functools.wraps(function)
        def call(*arguments, **named):
            token = _COMPUTE.set(dtype)
            try:
                return function(*arguments, **named)
            finally:
                _COMPUTE.reset(token)

        return call

    return model._replace(init=wrapped(model.init), evidence=wrapped(model.evidence))
