"""Cases of deep density networks."""

from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.likelihoods.mixture import MixtureOfNormals
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.weights.base import VariationalWeights
from dgmzoo.layers.weights.horseshoe import HorseshoeWeights
from dgmzoo.zoo.ddnn.eonade import EoNADE
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.ddnn.mixture_density_network import MixtureDensityNetwork
from dgmzoo.zoo.ddnn.nade import NADE
from dgmzoo.zoo.ddnn.regression import Regression
from dgmzoo.zoo.ddnn.rnade import RNADE
from tests.support.case import Case
from tests.support.toy_rows import ENTROPY_GIVEN_LABEL, LABEL, LABELLED, SHAPE, TOKENS, WITH_CONTEXT
from tests.zoo.cases_flows import ANY, REAL

CASES = [
    Case(
        "made",
        MADE(hidden=(16,), shape=SHAPE),
        noisy=False,
        refused_fields=({"hidden": ()}, {"hidden": (0,)}, {"num_masks": 0}),
    ),
    Case(
        "made-masks",
        MADE(hidden=(16, 16), num_masks=2, random_order=True, shape=SHAPE),
        noisy=False,
        thorough=True,
    ),
    Case(
        "made-context",
        MADE(hidden=(16,), context=MLP((4,)), shape=SHAPE),
        rows=WITH_CONTEXT,
        entropy=0.0,  # the context tells the pattern
        noisy=False,
    ),
    Case(
        "made-label",
        MADE(hidden=(16,), labels=2, shape=SHAPE),
        rows=LABELLED,
        entropy=ENTROPY_GIVEN_LABEL,
        noisy=False,
        thorough=True,
    ),
    Case(
        "made-categorical",
        MADE(hidden=(16,), likelihood=Categorical(num_classes=4), shape=(2,)),
        rows=TOKENS,
        noisy=False,
    ),
    # The KL of the weights is paid once for all data, so the bound nears the entropy as the data set grows.
    Case(
        "made-bayes",
        MADE(hidden=(16,), num_masks=2, weights=VariationalWeights(), shape=SHAPE),
        num_data=10_000,
        thorough=True,
    ),
    Case(
        "nade-label",
        NADE(hidden=8, labels=2, shape=SHAPE),
        rows=LABELLED,
        entropy=ENTROPY_GIVEN_LABEL,
        noisy=False,
        refused_fields=({"hidden": 0}, {"activation": "none"}),
    ),
    Case(
        "nade-categorical",
        NADE(hidden=8, likelihood=Categorical(num_classes=4), shape=(2,)),
        rows=TOKENS,
        noisy=False,
        thorough=True,
    ),
    # One network for all orders is not exact in each of them.
    Case(
        "eonade",
        EoNADE(hidden=(12, 12), num_orders=3, shape=SHAPE),
        tolerance=0.3,
        learning_rate=0.02,
        refused_fields=({"hidden": ()}, {"hidden": (0,)}, {"num_orders": 0}),
    ),
    Case(
        "eonade-context",
        EoNADE(hidden=(12,), num_orders=2, context=MLP((4,)), shape=SHAPE),
        rows=WITH_CONTEXT,
        entropy=0.0,  # the context tells the pattern
        tolerance=0.3,
        learning_rate=0.02,
        thorough=True,
    ),
    Case("rnade", RNADE(hidden=8, likelihood=MixtureOfNormals(2), shape=(2,)), rows=REAL, **ANY),
    Case(
        "mixture-density-network",
        MixtureDensityNetwork(components=3, labels=2, shape=(2,)),
        rows={**REAL, "label": LABEL, "mask": REAL["x"] < 1.2},
        refused_fields=({"components": 0},),
        **ANY,
    ),
    Case("mixture", MixtureDensityNetwork(components=3, shape=(2,)), rows=REAL, thorough=True, **ANY),
    Case(
        "regression-horseshoe",
        Regression(network=MLP((8,)), likelihood=Bernoulli(weights=HorseshoeWeights()), shape=SHAPE),
        rows=WITH_CONTEXT,
        entropy=0.0,  # the context tells the pattern
        num_data=10_000,
    ),
]
