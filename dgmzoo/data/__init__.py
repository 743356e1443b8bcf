"""`load_dataset`: load a data set; `Data`: the config that describes it; `catalogue`: all registered sets by name.

`load_dataset` turns a `Data` config into a `Dataset`; `catalogue` lists the registered sets. Public names are imported
on first use, so that listing the sets needs neither NumPy nor JAX.

>>> from dgmzoo.data import Data, load_dataset
>>> dataset = load_dataset(Data("toy_moons", seed=1))
>>> {split: rows["x"].shape for split, rows in dataset.splits.items()}
{'train': (10000, 2), 'valid': (1000, 2), 'test': (10000, 2)}
"""

import importlib

_NAMES_OF_MODULE = {
    "config": ("Data", "from_arrays"),
    "dataset": ("Dataset", "load_dataset"),
    "host_random": ("order",),
    "observe": ("Observe",),
    "entry": ("Entry", "Source"),
    "registry": ("catalogue", "describe", "find"),
    "lazy_rows": ("LazyRows",),
    "preview": ("summarize",),
    "lookup": ("fetch", "local_copy", "verify"),
    "stream": ("gather", "prefetch"),
}
_MODULE_OF_NAME = {name: module for module, names in _NAMES_OF_MODULE.items() for name in names}
__all__ = sorted(_MODULE_OF_NAME)


def __getattr__(name: str):
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
