"""A functional zoo of likelihood-based deep generative models.

The names below are imported on first use, so that `import dgmzoo` and the command's listings cost nothing.
"""

import importlib

_HOMES = {
    "dgmzoo.api": ("experiment", "load", "train"),
    "dgmzoo.compare.run": ("Comparison", "compare"),
    "dgmzoo.config.experiment": ("Evaluation", "Experiment", "Paper"),
    "dgmzoo.config.training": ("Training",),
    "dgmzoo.data": ("Data", "from_arrays"),
    "dgmzoo.files": ("CannotWrite",),
    "dgmzoo.model.contract": ("Draw", "Evidence", "Latent", "Model", "Query"),
    "dgmzoo.model.functional": ("functional",),
    "dgmzoo.objectives.elbo": ("ELBO",),
    "dgmzoo.objectives.importance": ("DReG", "IWAE"),
    "dgmzoo.objectives.score_function": ("NVIL",),
    "dgmzoo.run": ("Run",),
    "dgmzoo.training.loop": ("Interrupted", "NonFinite"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'dgmzoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
