"""How layers with random weights take part in a call of a model: each tells of itself, and draws by a key of its own."""

import contextlib
import contextvars
import functools
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import chex
import jax


class WeightNoise(NamedTuple):
    """How layers with random weights take part in one call of a model."""

    key: chex.PRNGKey | None  # of a draw of the whole network; None: the mean weights
    examples: int | None  # B where every example may have weights of its own; None: all share one draw
    found: dict[tuple[str, ...], tuple[Any, dict]]  # path of a layer -> its weights' kind, its parameters' shapes

    def key_of(self, path: tuple[str, ...]) -> chex.PRNGKey:
        """The key of one layer, the same however often it is called."""
        return _key_of(self.key, path)

    def report(self, path: tuple[str, ...], kind: Any, parameters: Mapping[str, jax.Array]) -> bool:
        """Take in that a layer is called; whether it has been called before. `kind` has `kl` and `mean`."""
        again = path in self.found
        self.found[path] = kind, {name: leaf.shape for name, leaf in parameters.items()}
        return again


_WEIGHTS: contextvars.ContextVar = contextvars.ContextVar("weights", default=None)


def weight_noise() -> WeightNoise:
    """The rule of the call that is being made; outside of one, mean weights."""
    return _WEIGHTS.get() or WeightNoise(None, None, {})


@contextlib.contextmanager
def weights_drawn(key: chex.PRNGKey | None, examples: int | None = None):
    """Layers called in here draw their weights by that key, or use their means where it is None."""
    token = _WEIGHTS.set(WeightNoise(key, examples, {}))
    try:
        yield _WEIGHTS.get()
    finally:
        _WEIGHTS.reset(token)


def weight_kl(noise: WeightNoise, params: Any, key: chex.PRNGKey) -> jax.Array | float:
    """The KL of all layers that were called. It is that of their parameters: layers may have been called in a loop."""
    return sum((kind.kl(own, _key_of(key, path)) for path, kind, own in random_weights(noise, params)), 0.0)


def random_weights(noise: WeightNoise, params: Any) -> Iterator[tuple[tuple[str, ...], Any, dict[str, jax.Array]]]:
    """The layers that were called: path, kind of weights, and their parameters among those of the model."""
    for path, (kind, shapes) in noise.found.items():
        own = functools.reduce(lambda tree, name: tree[name], path, params)
        own = {name: own[name] for name in shapes}
        if (stored := {name: leaf.shape for name, leaf in own.items()}) != shapes:
            raise ValueError(
                f"expected random weights of {'/'.join(path)} of shapes {shapes}, got {stored}: a stack of layers would "
                "share one draw; build the layers one by one"
            )
        yield path, kind, own


def _key_of(key: chex.PRNGKey, path: tuple[str, ...]) -> chex.PRNGKey:
    return jax.random.fold_in(key, zlib.crc32("/".join(path).encode()))
