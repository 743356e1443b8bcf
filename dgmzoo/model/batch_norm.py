"""`synchronized_batch_norm`: a context in which batch normalization averages its moments over all devices."""

import contextlib
from collections.abc import Iterator

import flax.linen as nn


@contextlib.contextmanager
def synchronized_batch_norm(axis_name: str) -> Iterator[None]:
    """Context in which each `nn.BatchNorm` without an `axis_name` averages its first and second moments over this axis.

    The activations and the running averages are then those of one device with the whole batch. The mean of the running
    variances of the devices would lack the variance between their means.

    >>> import jax
    >>> with synchronized_batch_norm("devices"):
    ...     variables = nn.BatchNorm(use_running_average=True).init(jax.random.key(0), jax.numpy.ones((2, 3)))
    >>> variables["batch_stats"]["mean"].shape
    (3,)
    """

    def call(method, arguments, named, context):
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, nn.BatchNorm) or module.axis_name is not None:
            return method(*arguments, **named)
        # The clone has the scope of the module, and so its parameters and statistics.
        return module.clone(parent=module.scope, axis_name=axis_name)(*arguments, **named)

    with nn.intercept_methods(call):
        yield
