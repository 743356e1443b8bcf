"""`Coupling`, `Autoregressive`: maps with a triangular Jacobian; `Permutation`, `LULinear`, `ActNorm`: maps between them."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.layers.flows.base import Bijection
from dgmzoo.layers.flows.elements import Affine, ElementMap
from dgmzoo.layers.networks.masked import MaskedMLP
from dgmzoo.layers.networks.mlp import MLP, Activation, check_widths
from dgmzoo.layers.sampling import ancestral
from dgmzoo.model.precision import compute_dtype


class Coupling(Bijection):
    """One half of the elements is mapped, with parameters that a network computes from the other half, which stays.

    Both directions cost one pass. A single element is mapped given the context alone.

    Source: Dinh, Sohl-Dickstein & Bengio 2017, "RealNVP" (arXiv 1605.08803), equations 4 to 8.

    >>> Coupling(flip=True).element.size
    2

    Raises:
      ValueError: a hidden width is below 1.
    """

    element: ElementMap = Affine()
    """Map of an element."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the network's hidden layers."""
    flip: bool = False
    """Map the first half instead of the second one."""
    activation: Activation = "relu"
    """Activation after every hidden layer."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", check_widths("hidden", self.hidden))
        super().__post_init__()

    def setup(self):
        self.network = MLP(self.hidden, self.activation)
        num = (self.dims + 1) // 2 * self.element.size
        self.head = nn.Dense(num, dtype=compute_dtype(), kernel_init=nn.initializers.zeros)

    def forward(self, x, context=None):
        return self._map(self.element.forward, x, context)

    def inverse(self, z, context=None):
        return self._map(self.element.inverse, z, context)

    def _map(self, element_map, x, context):
        num = (self.dims + 1) // 2  # elements that are mapped
        mapped, kept = (x[..., :num], x[..., num:]) if self.flip else (x[..., -num:], x[..., :-num])
        inputs = [kept] if self.dims > 1 else [jnp.ones_like(mapped)]
        if context is not None:
            inputs.append(jnp.broadcast_to(context, (*x.shape[:-1], context.shape[-1])))
        unconstrained = self.head(self.network(jnp.concatenate(inputs, -1)))
        mapped, terms = element_map(mapped, unconstrained.reshape(*x.shape[:-1], num, self.element.size))
        return jnp.concatenate([mapped, kept] if self.flip else [kept, mapped], -1), terms.sum(-1)


class Autoregressive(Bijection):
    """Each element is mapped with parameters that a masked network computes from the elements before it.

    `forward` costs one pass. `inverse` takes the elements one after another; a step costs one row of the first layer and
    the columns of one element in the last.

    Source: Papamakarios, Pavlakou & Murray 2017, "Masked autoregressive flow" (arXiv 1705.07057), section 3.

    >>> Autoregressive(hidden=(32,)).hidden
    (32,)

    Raises:
      ValueError: there is no hidden layer, or a width is below 1.
    """

    element: ElementMap = Affine()
    """Map of an element."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the network's hidden layers."""
    activation: Activation = "relu"
    """Activation after every hidden layer."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", check_widths("hidden", self.hidden, least=1))
        super().__post_init__()

    def setup(self):
        self.network = MaskedMLP(
            self.dims,
            self.element.size,
            hidden=self.hidden,
            activation=self.activation,
            head_init=nn.initializers.zeros,
        )

    def forward(self, x, context=None):
        unconstrained = self.network(x, context)
        z, terms = self.element.forward(x, unconstrained.reshape(*x.shape, self.element.size))
        return z, terms.sum(-1)

    def inverse(self, z, context=None):
        if self.is_initializing():  # a scan cannot create parameters
            self.network(z, context)
        by_element = jnp.moveaxis(z, -1, 0)[..., None]  # [D, ..., 1]

        def step(module, first, element):
            unconstrained = module.network.outputs(first, element, context)  # [..., P]
            x, log_derivative = module.element.inverse(by_element[element], unconstrained[..., None, :])
            return module.network.update(first, x, element), (x[..., 0], log_derivative[..., 0])

        start = self.network.start(jnp.zeros_like(z[..., :1]), context)
        _, (x, terms) = ancestral(self, step, start, self.dims)
        return jnp.moveaxis(x, 0, -1), terms.sum(0)


class Permutation(Bijection):
    """A fixed order of the elements: the reverse one, or a random one by its seed.

    >>> Permutation(dims=3).apply({}, jnp.arange(3.0)[None], method="forward")[0].tolist()
    [[2.0, 1.0, 0.0]]
    """

    seed: int | None = None
    """Seed of a random permutation; None: reverse the elements."""

    def order(self) -> np.ndarray:
        """Numbers `[D]` of the elements in their new order."""
        if self.seed is None:
            return np.arange(self.dims)[::-1]
        return np.random.Generator(np.random.Philox(self.seed)).permutation(self.dims)

    def forward(self, x, context=None):
        return x[..., self.order()], jnp.zeros(x.shape[:-1], x.dtype)

    def inverse(self, z, context=None):
        return z[..., np.argsort(self.order())], jnp.zeros(z.shape[:-1], z.dtype)


class LULinear(Bijection):
    """z = L U x + b with triangular L and U, whose determinant is the product of U's positive diagonal.

    Source: Durkan, Bekasov, Murray & Papamakarios 2019 (arXiv 1906.04032), section 3.2; Kingma & Dhariwal 2018 (arXiv
    1807.03039), section 3.2. The permutation P of the papers is the layer `Permutation`.

    >>> flow = LULinear(dims=2)
    >>> flow.apply(flow.init(jax.random.key(0), jnp.ones((1, 2)), method="forward"), jnp.ones((1, 2)), method="forward")
    (Array([[1., 1.]], dtype=float32), Array([0.], dtype=float32))
    """

    def setup(self):
        size = self.dims
        self.lower = self.param("lower", nn.initializers.zeros, (size, size), jnp.float32)
        self.upper = self.param("upper", nn.initializers.zeros, (size, size), jnp.float32)
        self.log_diagonal = self.param("log_diagonal", nn.initializers.zeros, (size,), jnp.float32)
        self.bias = self.param("bias", nn.initializers.zeros, (size,), jnp.float32)

    def _factors(self):
        lower = jnp.tril(self.lower, -1) + jnp.eye(self.dims, dtype=self.lower.dtype)
        return lower, jnp.triu(self.upper, 1) + jnp.diag(jnp.exp(self.log_diagonal))

    def forward(self, x, context=None):
        lower, upper = self._factors()
        z = x @ upper.T @ lower.T + _as_row(self.bias, x)
        return z, jnp.broadcast_to(self.log_diagonal.sum(), x.shape[:-1])

    def inverse(self, z, context=None):
        lower, upper = self._factors()
        columns = (z - _as_row(self.bias, z)).reshape(-1, self.dims).T
        columns = jax.scipy.linalg.solve_triangular(lower, columns, lower=True, unit_diagonal=True)
        x = jax.scipy.linalg.solve_triangular(upper, columns).T.reshape(z.shape)
        return x, jnp.broadcast_to(-self.log_diagonal.sum(), z.shape[:-1])


class ActNorm(Bijection):
    """z = (x - loc) exp(-log_scale) for each element, which starts with mean 0 and variance 1 on the first batch.

    The parameters start at the moments of the rows that initialize the model, and are learned from then on. A map that is
    first called in the inverse direction starts as the identity.

    Source: Kingma & Dhariwal 2018, "Glow" (arXiv 1807.03039), section 3.1.

    >>> x, norm = jnp.array([[1.0], [3.0]]), ActNorm(dims=1)
    >>> norm.apply(norm.init(jax.random.key(0), x, method="forward"), x, method="forward")[0].tolist()
    [[-1.0], [1.0]]
    """

    @nn.compact
    def _moments(self, x: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        if self.has_variable("params", "loc"):  # `param` would compute the moments again, to compare shapes
            return self.get_variable("params", "loc"), self.get_variable("params", "log_scale")
        rows = jnp.zeros((1, self.dims)) if x is None else x.reshape(-1, self.dims).astype(jnp.float32)
        scale = rows.std(0)
        scale = jnp.where(scale > 1e-3, scale, jnp.ones_like(scale))  # one row, or a constant column
        return self.param("loc", lambda key: rows.mean(0)), self.param("log_scale", lambda key: jnp.log(scale))

    def forward(self, x, context=None):
        loc, log_scale = self._moments(x)
        z = (x - _as_row(loc, x)) * _as_row(jnp.exp(-log_scale), x)
        return z, jnp.broadcast_to(-log_scale.sum(), x.shape[:-1])

    def inverse(self, z, context=None):
        loc, log_scale = self._moments(None)
        x = z * _as_row(jnp.exp(log_scale), z) + _as_row(loc, z)
        return x, jnp.broadcast_to(log_scale.sum(), z.shape[:-1])


def _as_row(vector: jax.Array, like: jax.Array) -> jax.Array:
    """A vector `[D]` with the number of axes of another array."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


def steps(step: Bijection, num: int, mix: str = "reverse", norm: bool = True) -> tuple[Bijection, ...]:
    """The bijections of a flow: `num` times a step, each after a normalization and before a change of the order.

    Args:
      step: a `Coupling` or an `Autoregressive`, copied for each step.
      mix: "reverse" the elements, or "linear": a random permutation and an LU-linear map.
      norm: normalize by the data (`ActNorm`) before each step.

    >>> [type(each).__name__ for each in steps(Coupling(), 2)]
    ['ActNorm', 'Coupling', 'Permutation', 'ActNorm', 'Coupling', 'Permutation']
    """
    layers: list[Bijection] = []
    for i in range(num):
        between: Sequence[Bijection] = (
            [Permutation(parent=None)] if mix == "reverse" else [Permutation(i, parent=None), LULinear(parent=None)]
        )
        layers += [*([ActNorm(parent=None)] if norm else []), step.clone(), *between]
    return tuple(layers)
