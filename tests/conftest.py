"""The rules every test runs under: strict promotion, typed keys, eight host devices."""

import os
import tempfile

# One cache of compiled programs for this session and the processes it starts: the same small nets come again and again.
_CACHE = tempfile.TemporaryDirectory(prefix="dgmzoo-xla-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import matplotlib
import pytest

matplotlib.use("Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="session")
def one_device():
    """Train and evaluate on one device unless a test names others: the eight share two cores."""
    from dgmzoo.evaluation import log_likelihood
    from dgmzoo.training import parallel

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "choose_devices", lambda batch_size: jax.local_devices()[:1])
        patch.setattr(log_likelihood, "local_devices", lambda: jax.local_devices()[:1])
        yield


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request):
    """Leave out XLA's optimizations, which cost small programs more than they give; files of long runs are marked."""
    optimized = any(mark.name == "optimized" for mark in request.node.iter_markers())
    jax.config.update("jax_disable_most_optimizations", not optimized)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True, scope="module")
def forgotten_programs():
    """Let a file's compiled programs go: each takes maps of memory, of which a process has some 65,000."""
    yield
    jax.clear_caches()
