"""Rules for every test: strict promotion, typed keys, eight host devices, a limit on processor time."""

import ctypes
import gc
import importlib.metadata
import os
import sys
import tempfile

# All processes of a test run share one cache of compiled programs, because the same small networks recur in many files.
# DGMZOO_TEST_CACHE names a folder that several runs share; otherwise the first process makes one for this run alone, and
# the workers of pytest-xdist inherit its environment.
if "PYTEST_XDIST_WORKER" not in os.environ:
    if not (_folder := os.environ.get("DGMZOO_TEST_CACHE")):
        _CACHE = tempfile.TemporaryDirectory(prefix="dgmzoo-xla-")
        _folder = _CACHE.name
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(_folder)
    # XLA's older emitters of fused loops compile in half the time, and round differently in loops. A run that selects
    # by -m, such as that of the thorough tests, has the emitters of users, which are the only ones of jaxlib 0.11.
    if importlib.metadata.version("jaxlib").startswith("0.10.") and "-m" not in sys.argv:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["DGMZOO_DEVICES"] = "1"  # a test that needs several devices names them, because the eight share two cores
# Optimizing a small program takes longer than it saves. The variable also reaches the processes that tests start.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax
import matplotlib
import pytest
from jax.experimental.compilation_cache import compilation_cache
from xdist.scheduler import LoadFileScheduling

matplotlib.use("Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")

# Seconds of one core for the call of a test. A quick test takes at most about 20 on the machine it is written on.
QUICK_LIMIT, THOROUGH_LIMIT = 40.0, 300.0


def pytest_configure(config):
    """Ignore a cache entry that another process is still writing: the program is compiled again."""
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache entry")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail a test whose call takes more processor time than its tier allows."""
    before = processor_seconds()
    result = yield
    spent = processor_seconds() - before
    tier, limit = ("thorough", THOROUGH_LIMIT) if item.get_closest_marker("thorough") else ("quick", QUICK_LIMIT)
    if spent > limit:
        advice = "make it smaller" if tier == "thorough" else "make it smaller or mark it thorough"
        pytest.fail(f"expected a {tier} test to take at most {limit:g} s of one core, got {spent:.1f} s; {advice}")
    return result


def processor_seconds() -> float:
    """Processor time of all threads of this process and of its ended children, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class ByFileAndCase(LoadFileScheduling):
    """Give a worker one file at a time, or one case of the battery, so that all workers share the battery."""

    def _split_scope(self, nodeid):
        path, _, name = nodeid.partition("::")
        return f"{path}[{name.rpartition('[')[2]}" if "/test_battery" in path else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByFileAndCase(config, log)


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def compilation(request):
    """Optimize the programs of files that are marked because their programs run for long."""
    optimized = any(mark.name == "optimized" for mark in request.node.iter_markers())
    jax.config.update("jax_disable_most_optimizations", not optimized)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def compiled_anew():
    """Take no program from the cache, so that a test can time its compilation."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it remembers whether the cache was enabled
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


def release_programs() -> None:
    """Drop compiled programs and return their memory to the system; a worker would grow to several gigabytes."""
    jax.clear_caches()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@pytest.fixture(autouse=True, scope="module")
def released_programs():
    """Release the programs of each file when it ends."""
    yield
    release_programs()
