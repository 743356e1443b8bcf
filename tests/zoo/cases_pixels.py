"""Cases of autoregressive densities of images."""

from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.zoo.ddnn.gated_pixel_cnn import GatedPixelCNN
from dgmzoo.zoo.ddnn.pixel_cnn import PixelCNN
from tests.support.case import Case
from tests.support.toy_rows import ENTROPY_GIVEN_LABEL, IMAGES, LABELLED, SHAPE, WITH_CONTEXT, X

_SMALL = {"channels": 4, "depth": 2, "window": 3}
CLASSES = {"x": (2 * X).astype("int32")}  # the classes 0 and 2 of three

CASES = [
    Case(
        "gated-pixel-cnn-label",
        GatedPixelCNN(**_SMALL, labels=2, shape=SHAPE),
        rows=LABELLED,
        entropy=ENTROPY_GIVEN_LABEL,
        learning_rate=0.02,
        noisy=False,
        refused_fields=({"channels": 0}, {"window": 2}, {"shape": (2, 2, 3)}),
    ),
    Case(
        "gated-pixel-cnn-classes",
        GatedPixelCNN(**_SMALL, likelihood=Categorical(num_classes=3), shape=SHAPE),
        rows=CLASSES,
        learning_rate=0.02,
        noisy=False,
        thorough=True,
    ),
    Case(
        "pixel-cnn",
        PixelCNN(**_SMALL, shape=(2, 2, 1)),
        rows=IMAGES,
        learning_rate=0.02,
        noisy=False,
        refused_fields=({"channels": 0}, {"window": 2}, {"shape": (2, 2, 3)}),
    ),
    Case(
        "pixel-cnn-context",
        PixelCNN(**_SMALL, context=MLP((4,)), shape=SHAPE),
        rows=WITH_CONTEXT,
        entropy=0.0,  # the context tells the pattern
        learning_rate=0.02,
        noisy=False,
        thorough=True,
    ),
]
