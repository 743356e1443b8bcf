"""Fixtures of the data tests: a loopback server, a small MNIST on it, folders under DGMZOO_DATA."""

from dataclasses import replace

import numpy as np
import pytest

from dgmzoo.data import catalogue, download, lookup, registry
from dgmzoo.data.entry import Source
from tests.support.data_fixtures import benchmark_data, empty_cache  # noqa: F401
from tests.support.server import ARRAYS, NAMES, ROWS, Server


@pytest.fixture
def registered(monkeypatch):
    """Register a changed copy of a set: `registered("mnist", splits={...}, sha256=None, ...)`."""
    catalogue = registry.catalogue()

    def register(name, **changes):
        catalogue[name] = replace(catalogue[name], **{"sha256": None, "sources": ()} | changes)
        monkeypatch.setattr(registry, "catalogue", lambda: catalogue)
        return catalogue[name]

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
        return registered("mnist", splits=ROWS, download_bytes=400_000, sources=tuple(web), sha256=sha256)

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
