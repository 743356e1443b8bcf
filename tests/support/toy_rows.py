"""Sixteen rows of three patterns, which every case of the battery is trained and tested on; a batch is the whole set."""

import math

import numpy as np

SHAPE = (2, 2)
PATTERNS = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 1]], np.float32).reshape(3, *SHAPE)
PATTERN_OF_ROW = np.repeat([0, 1, 2], [8, 4, 4])  # probabilities 1/2, 1/4, 1/4

X = PATTERNS[PATTERN_OF_ROW]
LABEL = (PATTERN_OF_ROW == 2).astype(np.int32)
MASK = np.broadcast_to(np.array([[True, True], [False, True]]), X.shape).copy()

BITS = {"x": X}
IMAGES = {"x": X[..., None]}
LABELLED = {"x": X, "label": LABEL}
MASKED = {"x": np.where(MASK, X, 7.0).astype(np.float32), "mask": MASK}  # missing elements hold nonsense
WITH_CONTEXT = {"x": X, "context": np.eye(3, dtype=np.float32)[PATTERN_OF_ROW]}
TOKENS = {"x": (X.reshape(16, 4)[:, :2] + 2 * X.reshape(16, 4)[:, 2:]).astype(np.int32)}

ENTROPY = 1.5 * math.log(2)
"""Entropy of the patterns, in nats."""
ENTROPY_GIVEN_LABEL = 0.75 * (math.log(3) - 2 / 3 * math.log(2))
"""Conditional entropy of the patterns given the label, in nats."""
