"""Downloads from a loopback server: resume, faulty sources, full disks, and several processes at once."""

import errno
import hashlib
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dgmzoo
from dgmzoo.data import Data, cache, download, load_dataset, lookup
from dgmzoo.data.entry import Source
from tests.support import file_writers
from tests.support.server import ARRAYS, COMPLETE_CACHE, FILES, FIRST_FILE, PACKED_NAMES, ROWS, cached_files


def test_fetch_reports_its_source_and_progress(mnist, server):
    steps, messages = [], []
    assert lookup.fetch("mnist", messages.append, lambda *step: steps.append(step)) == cache.root() / "mnist"
    assert cached_files() == COMPLETE_CACHE and len(server.requests) == 4
    assert server.address in messages[0] and "0.4 MB" in messages[0]
    assert steps[-1][1:] == (len(FILES["t10k-labels-idx1-ubyte.gz"]),) * 2
    assert {name for name, _, _ in steps} == set(PACKED_NAMES)
    np.testing.assert_array_equal(load_dataset(Data("mnist")).splits["test"]["x"], ARRAYS["test/x"])
    assert len(server.requests) == 4  # fetched once
    assert lookup.verify("mnist") == lookup.digest(ARRAYS)
    assert lookup.local_copy("mnist") == str(cache.root() / "mnist")


def test_interrupted_download_is_resumed(mnist, server):
    def interrupt(handler, name, start):
        if name == FIRST_FILE and not start:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(FILES[FIRST_FILE])))
            handler.end_headers()
            handler.wfile.write(FILES[FIRST_FILE][:70_000])
            return True

    server.respond = interrupt
    with pytest.raises(FileNotFoundError, match=f"ended after 70000 of {len(FILES[FIRST_FILE])} bytes"):
        lookup.fetch("mnist")
    lookup.fetch("mnist")
    assert server.requests[:2] == [(FIRST_FILE, 0), (FIRST_FILE, 70_000)] and cached_files() == COMPLETE_CACHE


def write_part(server, content: bytes) -> None:
    """Leave a part of the first file, as an interrupted download does."""
    folder = cache.root() / "downloads" / "mnist"
    folder.mkdir(parents=True)
    tag = hashlib.sha256(f"{server.address}{FIRST_FILE}".encode()).hexdigest()[:8]
    (folder / f"{FIRST_FILE}.{tag}.part").write_bytes(content)


def test_download_restarts_where_the_file_has_changed(mnist, server):
    write_part(server, b"x" * 1000)
    messages = []
    lookup.fetch("mnist", messages.append)
    assert (FIRST_FILE, 1000) in server.requests and (FIRST_FILE, 0) in server.requests
    assert any("does not fit together" in line for line in messages) and cached_files() == COMPLETE_CACHE


def test_download_restarts_where_the_part_is_longer_than_the_file(mnist, server):
    def refuse_range(handler, name, start):
        if start:
            handler.send_error(416)
            return True

    write_part(server, bytes(len(FILES[FIRST_FILE]) + 1))
    server.respond = refuse_range
    lookup.fetch("mnist")
    assert server.requests[1] == (FIRST_FILE, 0) and cached_files() == COMPLETE_CACHE


def test_server_that_cannot_resume_sends_the_whole_file(mnist, server):
    def ignore_range(handler, name, start):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(FILES[name])))
        handler.end_headers()
        handler.wfile.write(FILES[name])
        return True

    write_part(server, FILES[FIRST_FILE][:1000])
    server.respond = ignore_range
    lookup.fetch("mnist")
    assert cached_files() == COMPLETE_CACHE


def missing(handler, name, start):
    handler.send_error(404)
    return True


def hanging(handler, name, start):
    time.sleep(1.5)
    return True


def dripping(handler, name, start):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)
    return True


def endless(handler, name, start):
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))


def oversized(handler, name, start):
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**12))
    handler.end_headers()
    return True


def truncated(handler, name, start):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(FILES[name]) + 5))
    handler.end_headers()
    handler.wfile.write(FILES[name])
    return True


def altered(handler, name, start):
    body = bytearray(FILES[name])
    if name == "t10k-labels-idx1-ubyte.gz":
        other, _ = file_writers.mnist_files(ROWS, seed=1)
        body = other[name]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
    return True


def login_page(handler, name, start):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"<html>please log in</html>")
    return True


def resetting(handler, name, start):
    handler.send_response(200)
    handler.send_header("Content-Length", "9000")
    handler.end_headers()
    handler.wfile.write(b"x" * 100)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    return True


def not_http(handler, name, start):
    handler.wfile.write(b"SSH-2.0-hello\r\n")
    return True


MESSAGE_OF_FAULT = {
    missing: "answered 404",
    hanging: "did not answer|cannot be read: timed out",
    dripping: "abandoned as too slow",
    endless: "sent more than the",
    oversized: "announces 1000000000000 bytes",
    truncated: "ended after",
    altered: "content sha256",
    login_page: "whole gzip file",
    resetting: "broke off|ended after",
    not_http: "cannot be read",
}


@pytest.mark.parametrize("fault", MESSAGE_OF_FAULT, ids=lambda fault: fault.__name__)
def test_faulty_source_is_reported_and_leaves_no_set(fault, mnist, server):
    server.respond = fault
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match=MESSAGE_OF_FAULT[fault]) as caught:
        lookup.fetch("mnist")
    assert time.monotonic() - start < 5
    assert server.address in str(caught.value) and "by hand" in str(caught.value)
    assert not any(name.startswith("mnist") for name in cached_files())
    server.respond = None
    lookup.fetch("mnist")
    assert cached_files() == COMPLETE_CACHE


@pytest.mark.parametrize("fault", MESSAGE_OF_FAULT, ids=lambda fault: fault.__name__)
def test_second_source_is_used_after_the_first_fails(fault, mnist, server, second_server):
    mnist(server, second_server)
    server.respond = fault
    messages = []
    lookup.fetch("mnist", messages.append)
    assert cached_files() == COMPLETE_CACHE and any("trying the next source" in line for line in messages)


def test_refused_connection_is_reported(mnist):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        mnist(Source("web", f"http://127.0.0.1:{unused.getsockname()[1]}/", PACKED_NAMES))
        with pytest.raises(FileNotFoundError, match="refused"):
            lookup.fetch("mnist")


def test_full_disk_during_a_download_is_reported(mnist, monkeypatch):
    monkeypatch.setattr(download, "_transfer", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match=r"no room for mnist .* DGMZOO_CACHE"):
        lookup.fetch("mnist")
    assert cached_files() == set()


def test_full_disk_during_caching_is_a_warning(mnist, monkeypatch):
    def full(path, array, **kwargs):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(np, "save", full)
    with pytest.warns(UserWarning, match="could not cache mnist"):
        arrays, _ = lookup.load_arrays("mnist")
    np.testing.assert_array_equal(arrays["train/x"], ARRAYS["train/x"])
    assert not any("npy" in name for name in cached_files())


FETCH_PROGRAM = """
import sys
from dataclasses import replace
from dgmzoo.data import lookup, registry
from dgmzoo.data.entry import Source
address, sha256, *names = sys.argv[1:]
source = Source("web", address, {name.removesuffix(".gz"): name for name in names})
entries = registry.catalogue()
changes = dict(splits={"train": 300, "test": 50}, download_bytes=400_000, sources=(source,), sha256=sha256)
entries["mnist"] = replace(entries["mnist"], **changes)
registry.catalogue = lambda: entries
print(lookup.load_arrays("mnist", lambda message: print(message, file=sys.stderr))[1])
"""


def fetch_in_a_process(server) -> subprocess.Popen:
    """Start a process that fetches the small MNIST."""
    command = [sys.executable, "-c", FETCH_PROGRAM, server.address, lookup.digest(ARRAYS), *FILES]
    environment = {**os.environ, "PYTHONPATH": str(Path(dgmzoo.__file__).parents[1])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_concurrent_processes_fetch_once(mnist, server):
    server.respond = lambda handler, name, start: time.sleep(0.3)
    workers = [fetch_in_a_process(server) for _ in range(3)]
    outputs = [worker.communicate(timeout=60) for worker in workers]
    assert {out.strip() for out, _ in outputs} == {lookup.digest(ARRAYS)}, outputs
    assert len(server.requests) == 4 and cached_files() == COMPLETE_CACHE
    assert sum("waiting for another process" in err for _, err in outputs) == 2


def test_killed_fetch_leaves_no_set_and_is_resumed(mnist, server):
    def stall(handler, name, start):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(FILES[FIRST_FILE])))
        handler.end_headers()
        handler.wfile.write(FILES[FIRST_FILE][:131_072])
        handler.wfile.flush()
        time.sleep(60)

    server.respond = stall
    worker, deadline = fetch_in_a_process(server), time.monotonic() + 20
    while not any(p.stat().st_size >= 65_536 for p in cache.root().rglob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.kill()
    worker.communicate()
    assert cached_files() and not (cache.root() / "mnist").exists()
    server.respond = None
    lookup.fetch("mnist")
    assert cached_files() == COMPLETE_CACHE and server.requests[1][1] >= 65_536
