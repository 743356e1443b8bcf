"""`in_precision`: run a model's matrix products in another dtype; `check_densities`: refuse densities below float32.

The dtype is set for one call of a model. The layers of dgmzoo read it from `compute_dtype`; Flax's layers without a
dtype of their own (`nn.Dense(10)`) are called with it. Parameters and densities stay in float32.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.model.contract import Evidence, Model

_COMPUTE: contextvars.ContextVar = contextvars.ContextVar("compute", default=None)
_PRODUCTS = {"dot_general", "conv_general_dilated", "ragged_dot"}
_LAYERS = (
    nn.Dense,
    nn.DenseGeneral,
    nn.Einsum,
    nn.Conv,
    nn.ConvLocal,
    nn.ConvTranspose,
    nn.MultiHeadDotProductAttention,
)


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
                with _flax_layers_in(dtype):
                    return function(*arguments, **named)
            finally:
                _COMPUTE.reset(token)

        return call

    return model._replace(init=with_dtype(model.init), evidence=with_dtype(model.evidence))


@contextlib.contextmanager
def _flax_layers_in(dtype: jnp.dtype) -> Iterator[None]:
    """In the block, Flax's layers without a dtype compute in this one, and return the dtype of their parameters."""

    def call(method, arguments, named, context):
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, _LAYERS) or module.dtype is not None:
            return method(*arguments, **named)
        # The clone has the scope of the module, and so its parameters.
        return module.clone(parent=module.scope, dtype=dtype)(*arguments, **named).astype(module.param_dtype)

    with nn.intercept_methods(call):
        yield


def check_densities(evidence: Evidence, module_name: str) -> None:
    """Refuse densities below float32, whose sums over elements would lose their digits.

    >>> check_densities(Evidence(jnp.zeros((1, 2))), "Entry")

    Raises:
      ValueError: with the term and its dtype.
    """
    terms = {"log_likelihood": evidence.log_likelihood}
    for name, latent in evidence.latents.items():
        terms |= {f"latents[{name!r}].{term}": getattr(latent, term) for term in ("log_p", "log_q", "kl")}
    for name, value in terms.items():
        dtype = jnp.result_type(value)
        if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
            raise ValueError(
                f"expected evidence of {module_name} with {name} in float32 or above, got {dtype}; cast features to "
                "float32 before the parameters of a density are made (`features.astype(jnp.float32)`)"
            )


def has_product_in(function, dtype: jnp.dtype, *arguments) -> bool:
    """True if a function multiplies matrices or convolves in this dtype.

    >>> has_product_in(jnp.dot, jnp.dtype("bfloat16"), jnp.ones(3), jnp.ones(3))
    False
    """
    return _has_product(jax.make_jaxpr(function)(*arguments).jaxpr, dtype)


def _has_product(jaxpr, dtype: jnp.dtype) -> bool:
    for equation in jaxpr.eqns:
        if equation.primitive.name in _PRODUCTS and equation.invars[0].aval.dtype == dtype:
            return True
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)  # of a closed jaxpr
                if hasattr(inner, "eqns") and _has_product(inner, dtype):
                    return True
    return False
