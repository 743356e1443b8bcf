"""Cases of flows: densities of real-valued x."""

import numpy as np

from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.zoo.ddnn.maf import MAF
from dgmzoo.zoo.ddnn.nsf import NSF
from dgmzoo.zoo.ddnn.realnvp import RealNVP
from tests.support.case import Case
from tests.support.toy_rows import LABEL, PATTERN_OF_ROW, X

REAL = {"x": (X.reshape(16, 4)[:, :2] + 0.3 * np.random.default_rng(0).normal(size=(16, 2))).astype(np.float32)}
_CONTEXT = {"context": np.eye(3, dtype=np.float32)[PATTERN_OF_ROW]}
# A density of a few points has no lower bound, so that a training is short; one that diverges shows.
ANY = {"entropy": -100.0, "tolerance": 105.0, "steps": 200, "learning_rate": 0.002, "noisy": False}
_SMALL = {"num_layers": 2, "hidden": (8,)}

CASES = [
    Case(
        "realnvp-label",
        RealNVP(**_SMALL, labels=2, shape=(2,)),
        rows={**REAL, "label": LABEL},
        refused_fields=({"num_layers": 0}, {"labels": -1}),
        **ANY,
    ),
    Case(
        "maf-context",
        MAF(**_SMALL, context=MLP((4,)), shape=(2,)),
        rows={**REAL, **_CONTEXT},
        refused_fields=({"hidden": ()}, {"fast": "both"}),
        **ANY,
    ),
    Case("maf-fast-samples", MAF(**_SMALL, fast="samples", shape=(2,)), rows=REAL, thorough=True, **ANY),
    Case(
        "nsf",
        NSF(num_layers=1, hidden=(8,), bins=3, shape=(2,)),
        rows=REAL,
        refused_fields=({"bins": 0}, {"step": "both"}),
        **ANY,
    ),
    Case(
        "nsf-autoregressive", NSF(**_SMALL, step="autoregressive", bins=3, shape=(2,)), rows=REAL, thorough=True, **ANY
    ),
]
