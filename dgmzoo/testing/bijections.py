"""`check_bijection`: test a map and its inverse; `check_autoregressive`: test that outputs ignore later inputs."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Array
from dgmzoo.testing.report import BatteryError, LawFailed, require, require_equal, require_finite


def check_bijection(
    forward: Callable[[Array], tuple[Array, Array]],
    inverse: Callable[[Array], tuple[Array, Array] | Array],
    x: Array,
    tolerance: float = 1e-4,
) -> None:
    """Test a bijection: the round trip, the log-determinant against `slogdet` of the Jacobian, finite gradients.

    Args:
      forward: `x [N, ...] -> (z [N, ...], log_det [N])`, each row by itself.
      inverse: `z [N, ...] -> x`, or `(x, log_det)` with the log-determinant of the inverse.
      x: points `[N, ...]`; include the boundaries of pieces, and points beyond them.
      tolerance: allowed difference, relative to the larger of 1 and the expected value.

    Raises:
      BatteryError: one of the tests fails, with what was expected and what came.

    >>> check_bijection(lambda x: (2 * x, jnp.full(len(x), 3 * jnp.log(2.0))), lambda z: z / 2, jnp.ones((4, 3)))
    >>> check_bijection(lambda x: (2 * x, jnp.zeros(len(x))), lambda z: z / 2, jnp.ones((1, 3)))
    Traceback (most recent call last):
    dgmzoo.testing.report.BatteryError: expected log_det[0] = 2.07944, got 0; look at its sign and its sum over axes
    """
    x = jnp.asarray(x)

    def one(row):
        z, log_det = forward(row[None])
        return z[0], log_det[0]

    try:
        z, log_det = jax.jit(forward)(x)
        require(z.size == x.size, f"expected z with the {x.size} elements of x, got {z.shape}")
        require(jnp.shape(log_det) == (len(x),), f"expected log_det of shape {(len(x),)}, got {jnp.shape(log_det)}")
        jacobian = jax.jit(jax.vmap(jax.jacfwd(lambda row: one(row)[0])))(x).reshape(len(x), x[0].size, x[0].size)
        require_finite(jacobian, "derivatives of z", "clamp the input before a `where`, not its result")
        expected = np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
        require_equal(expected, log_det, "log_det", "look at its sign and its sum over axes", tolerance)
        back = inverse(z)
        back, inverse_log_det = back if isinstance(back, tuple) else (back, None)
        require_equal(x, back, "inverse(forward(x))", "look at the order of the steps of the inverse", tolerance)
        if inverse_log_det is not None:
            advice = "it is that of the inverse at z"
            require_equal(-expected, inverse_log_det, "the log-determinant of the inverse", advice, tolerance)
        gradient = jax.jit(jax.grad(lambda x: forward(x)[1].sum()))(x)
        require_finite(gradient, "gradients of log_det", "clamp the input before a `where`, not its result")
    except LawFailed as failure:
        raise BatteryError(str(failure)) from None


def check_autoregressive(
    function: Callable[[Array], Array], x: Array, order: Sequence[int] | None = None, strict: bool = True
) -> None:
    """Test that output d depends on all elements before d in an order, and on no other.

    Args:
      function: `x [D] -> y [D, ...]`, where `y[d]` are the parameters of element d.
      x: points `[N, D]`; an entry of the Jacobian counts as zero if it is zero at all of them.
      order: the elements, first to last; None: 0, 1, ..., D - 1.
      strict: exclude the element itself, as conditionals do; a triangular bijection includes it.

    Raises:
      BatteryError: an entry of the Jacobian is not zero though it has to be, or zero though it may not be.

    >>> check_autoregressive(lambda x: jnp.cumsum(x) - x, jnp.ones((1, 3)))
    >>> check_autoregressive(jnp.cumsum, jnp.ones((1, 3)))
    Traceback (most recent call last):
    dgmzoo.testing.report.BatteryError: expected output 0 without a dependence on element 0, got a derivative of 1
    """
    x = jnp.asarray(x)
    dims = x.shape[1]
    order = list(range(dims)) if order is None else [int(element) for element in order]
    if sorted(order) != list(range(dims)):
        raise ValueError(f"expected an order of the elements 0 to {dims - 1}, got {order}")
    jacobian = jax.jit(jax.vmap(jax.jacfwd(lambda row: function(row).reshape(dims, -1))))(x)  # [N, D, P, D]
    size = np.abs(np.asarray(jacobian)).max((0, 2))  # [D, D]
    position = np.argsort(order)
    for output in range(dims):
        for element in range(dims):
            allowed = position[element] < position[output] or (not strict and element == output)
            if not allowed and size[output, element] != 0:
                raise BatteryError(
                    f"expected output {output} without a dependence on element {element}, got a derivative of "
                    f"{size[output, element]:.6g}"
                )
            if allowed and size[output, element] == 0:
                raise BatteryError(f"expected output {output} to depend on element {element}, got a derivative of 0")
