"""`apply_network`: call a network, with the argument `train` only if the network accepts it."""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from dgmzoo.model.contract import Query


def apply_network(network: Callable[..., jax.Array], x: jax.Array, query_or_train: Query | bool, **inputs: Any):
    """Call a network on x; one whose `__call__` has an argument `train` gets that of the query.

    A network with dropout or batch normalization needs it: `nn.Dropout(rate, deterministic=not train)`,
    `nn.BatchNorm(use_running_average=not train)`.

    Args:
      query_or_train: the query of the evidence; False in `generate` and `prepare`.
      inputs: further arguments of the network.

    >>> apply_network(lambda x, train: (x, train), 3.0, Query(train=True))
    (3.0, True)
    >>> apply_network(lambda x: x, 3.0, Query(train=True))
    3.0
    """
    train = query_or_train.train if isinstance(query_or_train, Query) else query_or_train
    return network(x, **inputs, **({"train": train} if takes_train(network) else {}))


def takes_train(network: Callable[..., Any]) -> bool:
    """True if the `__call__` of a network has an argument `train`.

    >>> takes_train(lambda x: x)
    False
    """
    try:
        return "train" in inspect.signature(network).parameters
    except (TypeError, ValueError):  # built-in functions have no signature
        return False
