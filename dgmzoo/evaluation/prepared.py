"""`prepare`: compute a model's constants, such as log Z, before evaluation; `prepared_quantities`: list them.

The quantities are leaves of the collection `prepared`, which hold NaN before they are computed. A leaf `<name>_error`
beside `<name>` is the standard error of an estimate, in nats of log p(x). The error enters the record and the printed
Monte Carlo error.
"""

import math
import zlib
from typing import Any

import chex
import jax
import numpy as np

from dgmzoo.model.contract import Model, Variables

_SUFFIX = "_error"


def prepare(model: Model, variables: Variables, key: chex.PRNGKey) -> Variables:
    """The variables for a measurement: those of `model.prepare`, or the same where the entry has none.

    Call it once, and use the result for every split, for codes and for samples.

    >>> model = Model(None, None, None, lambda variables, key: {**variables, "prepared": {"log_z": 0.5}}, "elbo")
    >>> float(prepare(model, {"params": {}}, jax.random.key(0))["prepared"]["log_z"])
    0.5
    """
    if model.prepare is None:
        return variables
    key = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(b"evaluation")), 0)
    return jax.jit(model.prepare)(variables, key)


def prepared_quantities(variables: Variables) -> dict[str, float]:
    """Name -> number, of every single number in the collection `prepared`; names within modules are joined by "/".

    >>> prepared_quantities({"params": {}, "prepared": {"prior": {"log_z": np.float32(0.5)}}})
    {'prior/log_z': 0.5}
    """
    leaves = jax.tree.leaves_with_path(jax.device_get(variables.get("prepared", {})))
    named = {"/".join(str(part.key) for part in path): leaf for path, leaf in leaves}
    return {name: float(np.reshape(leaf, ())) for name, leaf in named.items() if np.size(leaf) == 1}


def with_prepared_error(monte_carlo_error: float, quantities: dict[str, Any]) -> float:
    """Monte Carlo error of a value together with the errors of the prepared quantities, in quadrature.

    >>> with_prepared_error(3.0, {"log_z": 100.0, "log_z_error": 4.0})
    5.0
    """
    errors = [
        value
        for name, value in quantities.items()
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in quantities
    ]
    return math.hypot(monte_carlo_error, *errors) if errors else monte_carlo_error
