"""The rules every test runs under: strict promotion, typed keys, eight host devices."""

import os
import tempfile
from pathlib import Path

# One cache of compiled programs for this session and the processes it starts: the same small nets come again and again.
# The first process makes it; the workers of pytest-xdist have its environment.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="dgmzoo-xla-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["DGMZOO_DEVICES"] = "1"  # a test that needs several devices names them: the eight share two cores
# XLA's optimizations cost small programs more than they give, in the processes that tests start too.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax
import matplotlib
import pytest
from jax.experimental.compilation_cache import compilation_cache

matplotlib.use("Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")


def pytest_configure(config):
    """A program that another process is still writing is compiled here too, which is no failure."""
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache entry")


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def compilation(request):
    """Optimize the programs of files of long runs, which are marked."""
    optimized = any(mark.name == "optimized" for mark in request.node.iter_markers())
    jax.config.update("jax_disable_most_optimizations", not optimized)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def compiled_anew():
    """Take no program from the cache: the test times its compilation."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # which keeps the answer that there is one
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


def forget_programs(most: int = 30_000) -> None:
    """Let compiled programs go once they are many: each takes maps of memory, of which a process has some 65,000."""
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > most:
        jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def forgotten_programs():
    """Between files."""
    yield
    forget_programs()
