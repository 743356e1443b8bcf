"""`default_style`: a context in which Matplotlib draws by its defaults, whatever the person's settings are."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def default_style() -> Iterator[None]:
    """Draw without the person's matplotlibrc and `MPLBACKEND`, which may name a program or a backend that is not there.

    >>> with default_style():
    ...     import matplotlib
    >>> matplotlib.rcParams["text.usetex"]
    False
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    except Exception:  # a matplotlibrc that cannot be read
        before = os.environ.get("MATPLOTLIBRC")
        os.environ["MATPLOTLIBRC"] = os.devnull
        try:
            import matplotlib
        finally:
            os.environ.pop("MATPLOTLIBRC") if before is None else os.environ.update(MATPLOTLIBRC=before)
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if "backend" not in name}
    with matplotlib.rc_context(defaults):
        yield
