"""Every test has its own empty cache and sees no benchmark data, unless it asks for `benchmark`."""

import os
from dataclasses import replace

import pytest

from dgmzoo.data import registry

_DATA = os.environ.get("DGMZOO_DATA")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of this test's own."""
    monkeypatch.setenv("DGMZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DGMZOO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def benchmark(monkeypatch, tmp_path_factory):
    """The real sets; decoded once for the whole run."""
    if not _DATA:
        pytest.skip("DGMZOO_DATA names no folder of benchmark data")
    monkeypatch.setenv("DGMZOO_DATA", _DATA)
    monkeypatch.setenv("DGMZOO_CACHE", str(tmp_path_factory.getbasetemp() / "benchmark"))


@pytest.fixture
def registered(monkeypatch):
    """Register a changed copy of a set: `registered("mnist", splits={...}, sha256=None, ...)`."""
    known = registry.catalogue()

    def register(name, **changes):
        known[name] = replace(known[name], **{"sha256": None, "sources": ()} | changes)
        monkeypatch.setattr(registry, "catalogue", lambda: known)
        return known[name]

    return register
