"""Fixtures of the data tests: changed entries, a loopback server, a small MNIST on it, folders under DGMZOO_DATA."""

from dataclasses import replace

import numpy as np
import pytest

from dgmzoo.data import catalogue, download, lookup, registry
from dgmzoo.data.entry import Source
from tests.support import file_writers
from tests.support.data_fixtures import benchmark_data, empty_cache  # noqa: F401
from tests.support.server import ARRAYS, PACKED_NAMES, ROWS, Server


@pytest.fixture
def registered(monkeypatch):
    """Register a changed copy of a set: `registered("mnist", splits={...}, sha256=None, ...)`."""
    entries = registry.catalogue()

    def register(name, **changes):
        entries[name] = replace(entries[name], **{"sha256": None, "sources": ()} | changes)
        monkeypatch.setattr(registry, "catalogue", lambda: entries)
        return entries[name]

    return register


@pytest.fixture
def server():
    """A loopback server of the small MNIST."""
    with Server().running() as running:
        yield running


@pytest.fixture
def second_server():
    """Another loopback server of the small MNIST."""
    with Server().running() as running:
        yield running


@pytest.fixture
def mnist(registered, server, monkeypatch):
    """The small MNIST, registered with `server` as its only source; `mnist(...)` registers other sources."""
    monkeypatch.setattr(download, "TIMEOUT", 0.4)

    def register(*sources):
        sources = [
            Source("web", source.address, PACKED_NAMES) if isinstance(source, Server) else source
            for source in sources or (server,)
        ]
        sha256 = lookup.digest(ARRAYS)
        return registered("mnist", splits=ROWS, download_bytes=400_000, sources=tuple(sources), sha256=sha256)

    register()
    return register


@pytest.fixture
def mnist_arrays(registered, folder):
    """The arrays of a random MNIST of 500 / 80 rows, which lies under DGMZOO_DATA."""
    contents, arrays = file_writers.mnist_files({"train": 500, "test": 80})
    file_writers.write_files(folder("mnist"), contents)
    registered("mnist", splits={"train": 500, "test": 80})
    return arrays


@pytest.fixture
def random():
    """A seeded NumPy generator."""
    return np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function from a set's name to its folder under DGMZOO_DATA, which is empty at first."""
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))

    def folder_of(name):
        path = tmp_path / "data" / catalogue()[name].folder
        path.mkdir(parents=True, exist_ok=True)
        return path

    return folder_of
