"""Data: found, fetched, verified, split and observed.

`load(Data("mnist", num_validation=10_000))` gives a `Dataset`; `catalogue()` lists what is known. Names are
imported on first use, so that listing the sets needs neither NumPy nor JAX.
"""

import importlib

_HOMES = {
    "config": ("Data", "from_arrays"),
    "dataset": ("Dataset", "load"),
    "host_random": ("order",),
    "observe": ("Observe",),
    "entry": ("Entry", "Source"),
    "registry": ("catalogue", "describe", "find"),
    "lazy_rows": ("LazyRows",),
    "preview": ("grid", "picture", "summary"),
    "lookup": ("at_hand", "fetch", "verify"),
    "stream": ("gather", "prefetch"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
