"""Fixtures that isolate a test from the user's data: an empty cache, and benchmark data on request only."""

import os

import pytest

_BENCHMARK_DATA = os.environ.get("DGMZOO_DATA")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """Path of an empty cache for this test alone; DGMZOO_DATA is unset, home and working folder are temporary."""
    monkeypatch.setenv("DGMZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DGMZOO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def benchmark_data(monkeypatch, tmp_path_factory):
    """The published sets under DGMZOO_DATA, with one cache for the whole session; skips where there are none."""
    if not _BENCHMARK_DATA:
        pytest.skip("DGMZOO_DATA names no folder of benchmark data")
    monkeypatch.setenv("DGMZOO_DATA", _BENCHMARK_DATA)
    monkeypatch.setenv("DGMZOO_CACHE", str(tmp_path_factory.getbasetemp() / "benchmark"))
