"""Quadrature rules for expectations over standard normal noise, for functions that are smooth between given points."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)


def noise_rule(splits=(), reach=10.0, width=1.5):
    """Nodes and weights of E f(x), x ~ N(0, 1), from Gauss-Legendre panels with edges at `splits`.

    >>> x, w = noise_rule()
    >>> round(float(w @ x**2), 6)
    1.0
    """
    edges = sorted({-reach, reach, *(float(s) for s in splits if abs(s) < reach)})
    pieces = [np.linspace(a, b, int(np.ceil((b - a) / width)) + 1) for a, b in itertools.pairwise(edges)]
    x, w = [], []
    for a, b in itertools.chain(*(itertools.pairwise(piece) for piece in pieces)):
        x.append((a + b) / 2 + (b - a) / 2 * NODES)
        w.append((b - a) / 2 * WEIGHTS)
    x, w = np.concatenate(x), np.concatenate(w)
    return jnp.asarray(x), jnp.asarray(w * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))


def product_rule(x, w):
    """The rule for two independent samples: nodes [N^2, 2] and weights [N^2]."""
    pairs = jnp.stack([a.ravel() for a in jnp.meshgrid(x, x)], -1)
    return pairs, jnp.outer(w, w).ravel()


def expected_gradient(objective, params, x, w):
    """Expectation of the gradient at one sample, which a training step follows on average."""
    grads = jax.jit(jax.vmap(jax.grad(objective), (None, 0)))(jnp.asarray(params), x)
    return np.asarray(jnp.tensordot(w, grads, axes=(0, 0)))


def gradient_of_expectation(expectation, params, step=1e-3, directions=None):
    """Derivatives by central differences of fourth order of a function that is smooth in `params` [P].

    Args:
      directions: `[D, P]`. Default: the axes of the parameters, which gives the gradient.
    """
    params = np.asarray(params, float)
    derivatives = []
    for direction in np.eye(params.size) if directions is None else directions:
        f = [float(expectation(jnp.asarray(params + k * step * direction))) for k in (-2, -1, 1, 2)]
        derivatives.append((f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step))
    return np.array(derivatives)


def some_directions(size, num=3):
    """Directions [D, P] of random signs, so that an error in any single parameter is visible along each of them."""
    return np.random.default_rng(0).choice([-1.0, 1.0], (num, size))
