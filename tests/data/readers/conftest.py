"""Limits on memory and time for tests that read damaged or hostile files."""

import time
import tracemalloc

import pytest

MAX_BYTES = 64 << 20
MAX_SECONDS = 5


@pytest.fixture
def bounded_memory_and_time():
    """Fail a test that allocates `MAX_BYTES` or computes for `MAX_SECONDS`."""
    tracemalloc.start()
    start = time.process_time()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MAX_BYTES and time.process_time() - start < MAX_SECONDS
