"""`weights_drawn`: context that gives Bayesian layers their keys; `weight_kl`: total KL of the layers called in it.

`functional` opens the context `weights_drawn` around a call. Each layer with random weights takes its key from
`weight_noise` and reports itself there, so that the KL of all of them can be computed after the call.
"""

import contextlib
import contextvars
import functools
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import chex
import jax


class WeightNoise(NamedTuple):
    """Source of noise for the random weights of one call of a model.

    >>> noise = WeightNoise(jax.random.key(0), examples=None, layers={})
    >>> bool((noise.key_of(("encoder",)) == noise.key_of(("decoder",))).all())
    False
    """

    key: chex.PRNGKey | None  # of one sample of the whole network; None: the mean weights
    examples: int | None  # B where every example may have weights of its own; None: all examples share one sample
    layers: dict[tuple[str, ...], tuple[Any, dict]]  # path of a layer -> its `Weights`, shapes of its parameters

    def key_of(self, path: tuple[str, ...]) -> chex.PRNGKey:
        """The key of one layer, the same in every call of the layer."""
        return _key_of(self.key, path)

    def report(self, path: tuple[str, ...], weights: Any, parameters: Mapping[str, jax.Array]) -> bool:
        """Record the call of a layer; True if the layer was called before.

        Args:
          weights: distribution of the weights, with methods `kl` and `mean`.
        """
        is_repeated = path in self.layers
        self.layers[path] = weights, {name: leaf.shape for name, leaf in parameters.items()}
        return is_repeated


_WEIGHTS: contextvars.ContextVar = contextvars.ContextVar("weights", default=None)


def weight_noise() -> WeightNoise:
    """The source of noise of the current call; outside a call, one that selects the mean weights.

    >>> weight_noise().key is None
    True
    """
    return _WEIGHTS.get() or WeightNoise(None, None, {})


@contextlib.contextmanager
def weights_drawn(key: chex.PRNGKey | None, examples: int | None = None) -> Iterator[WeightNoise]:
    """Sample random weights by this key in the block, or use their means where it is None.

    >>> with weights_drawn(None) as noise:
    ...     weight_noise() is noise
    True
    """
    token = _WEIGHTS.set(WeightNoise(key, examples, {}))
    try:
        yield _WEIGHTS.get()
    finally:
        _WEIGHTS.reset(token)


def weight_kl(noise: WeightNoise, params: Any, key: chex.PRNGKey) -> jax.Array | float:
    """KL divergence of the weights of all layers that were called, in nats.

    It is computed from the parameters of the model, once a layer, because a layer may have been called in a loop.
    """
    layers = random_weights(noise, params)
    return sum((weights.kl(parameters, _key_of(key, path)) for path, weights, parameters in layers), 0.0)


def random_weights(noise: WeightNoise, params: Any) -> Iterator[tuple[tuple[str, ...], Any, dict[str, jax.Array]]]:
    """Path, distribution and parameters (taken from those of the model) of each layer that was called.

    Raises:
      ValueError: the parameters of a layer are stacked, so that several layers would share one sample.
    """
    for path, (weights, shapes) in noise.layers.items():
        parameters = functools.reduce(lambda tree, name: tree[name], path, params)
        parameters = {name: parameters[name] for name in shapes}
        if (stored := {name: leaf.shape for name, leaf in parameters.items()}) != shapes:
            raise ValueError(
                f"expected random weights of {'/'.join(path)} of shapes {shapes}, got {stored}: a stack of layers would "
                "share one draw; build the layers one by one"
            )
        yield path, weights, parameters


def _key_of(key: chex.PRNGKey, path: tuple[str, ...]) -> chex.PRNGKey:
    return jax.random.fold_in(key, zlib.crc32("/".join(path).encode()))
