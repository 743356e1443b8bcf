"""Cases of deep density networks."""

from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.weights.base import VariationalWeights
from dgmzoo.layers.weights.horseshoe import HorseshoeWeights
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.ddnn.regression import Regression
from tests.support.case import Case
from tests.support.toy_rows import ENTROPY_GIVEN_LABEL, LABELLED, SHAPE, TOKENS, WITH_CONTEXT

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
        "regression-horseshoe",
        Regression(network=MLP((8,)), likelihood=Bernoulli(weights=HorseshoeWeights()), shape=SHAPE),
        rows=WITH_CONTEXT,
        entropy=0.0,  # the context tells the pattern
        num_data=10_000,
    ),
]
