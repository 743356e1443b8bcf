"""Dtype of the matrix products of dense layers, set for one call of a model by a context variable."""

import contextvars
import functools

import jax.numpy as jnp

from dgmzoo.model.contract import Model

_COMPUTE: contextvars.ContextVar = contextvars.ContextVar("compute", default=None)


def compute_dtype() -> jnp.dtype | None:
    """The dtype in which dense layers multiply, set by `in_precision`; None: the dtype of their input and parameters.

    Parameters stay in float32, and so do densities: the heads of a network cast their input up
    (`families.at_least_float32`).

    >>> compute_dtype() is None
    True
    """
    return _COMPUTE.get()


def in_precision(model: Model, dtype: jnp.dtype) -> Model:
    """A model whose networks compute their products in another dtype, such as bfloat16.

    >>> model = Model(lambda key, batch: compute_dtype(), lambda *arguments: None, None, None, "elbo")
    >>> in_precision(model, jnp.dtype("bfloat16")).init(None, {})
    dtype(bfloat16)
    """

    def with_dtype(function):
        @functools.wraps(function)
        def call(*arguments, **named):
            token = _COMPUTE.set(dtype)
            try:
                return function(*arguments, **named)
            finally:
                _COMPUTE.reset(token)

        return call

    return model._replace(init=with_dtype(model.init), evidence=with_dtype(model.evidence))
