"""Every test has its own empty cache and sees no benchmark data, unless it asks for `benchmark`."""

import os
from dataclasses import replace

import numpy as np
import pytest

from dgmzoo.data import catalogue, download, lookup, registry
from dgmzoo.data.entry import Source
from tests.support.server import ARRAYS, NAMES, ROWS, Server

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


@pytest.fixture
def server():
    with Server().running() as running:
        yield running


@pytest.fixture
def second():
    with Server().running() as running:
        yield running


@pytest.fixture
def mnist(registered, server, monkeypatch):
    """mnist of a few rows from the server alone; `mnist(...)` registers other sources."""
    monkeypatch.setattr(download, "TIMEOUT", 0.4)

    def register(*sources):
        web = [Source("web", s.address, NAMES) if isinstance(s, Server) else s for s in sources or (server,)]
        sha256 = lookup.digest(ARRAYS)
        return registered("mnist", splits=ROWS, size=400_000, sources=tuple(web), sha256=sha256)

    register()
    return register


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function from a set's name to its folder under DGMZOO_DATA."""
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))

    def of(name):
        path = tmp_path / "data" / catalogue()[name].folder
        path.mkdir(parents=True, exist_ok=True)
        return path

    return of
