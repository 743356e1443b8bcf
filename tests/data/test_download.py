"""Fetching from a loopback server that answers well, badly, slowly or never."""

import errno
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
from tests.support.server import ARRAYS, CONTENTS, FIRST, NAMES, ROWS, WHOLE, held


def test_whole_set_with_progress_and_messages(mnist, server):
    seen, said = [], []
    assert lookup.fetch("mnist", said.append, lambda *step: seen.append(step)) == cache.root() / "mnist"
    assert held() == WHOLE and len(server.requests) == 4
    assert server.address in said[0] and "0.4 MB" in said[0]
    assert seen[-1][1:] == (len(CONTENTS["t10k-labels-idx1-ubyte.gz"]),) * 2
    assert {name for name, _, _ in seen} == set(NAMES)
    np.testing.assert_array_equal(load_dataset(Data("mnist")).splits["test"]["x"], ARRAYS["test/x"])
    assert len(server.requests) == 4  # fetched once
    assert lookup.verify("mnist") == lookup.digest(ARRAYS) and lookup.local_copy("mnist") == str(cache.root() / "mnist")


def test_resumed_in_the_middle(mnist, server):
    def cut(handler, name, start):
        if name == FIRST and not start:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(CONTENTS[FIRST])))
            handler.end_headers()
            handler.wfile.write(CONTENTS[FIRST][:70_000])
            return True

    server.behave = cut
    with pytest.raises(FileNotFoundError, match=f"ended after 70000 of {len(CONTENTS[FIRST])} bytes"):
        lookup.fetch("mnist")
    lookup.fetch("mnist")
    assert server.requests[:2] == [(FIRST, 0), (FIRST, 70_000)] and held() == WHOLE


def test_resuming_what_has_changed_starts_anew(mnist, server):
    half = cache.root() / "downloads" / "mnist"
    half.mkdir(parents=True)
    tag = download.hashlib.sha256(f"{server.address}{FIRST}".encode()).hexdigest()[:8]
    (half / f"{FIRST}.{tag}.part").write_bytes(b"x" * 1000)
    said = []
    lookup.fetch("mnist", said.append)
    assert (FIRST, 1000) in server.requests and (FIRST, 0) in server.requests
    assert any("does not fit together" in line for line in said) and held() == WHOLE


def test_a_part_longer_than_the_file_starts_anew(mnist, server):
    def beyond(handler, name, start):
        if start:
            handler.send_error(416)
            return True

    half = cache.root() / "downloads" / "mnist"
    half.mkdir(parents=True)
    tag = download.hashlib.sha256(f"{server.address}{FIRST}".encode()).hexdigest()[:8]
    (half / f"{FIRST}.{tag}.part").write_bytes(bytes(len(CONTENTS[FIRST]) + 1))
    server.behave = beyond
    lookup.fetch("mnist")
    assert server.requests[1] == (FIRST, 0) and held() == WHOLE


def test_server_that_cannot_resume(mnist, server):
    def deaf(handler, name, start):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENTS[name])))
        handler.end_headers()
        handler.wfile.write(CONTENTS[name])
        return True

    half = cache.root() / "downloads" / "mnist"
    half.mkdir(parents=True)
    tag = download.hashlib.sha256(f"{server.address}{FIRST}".encode()).hexdigest()[:8]
    (half / f"{FIRST}.{tag}.part").write_bytes(CONTENTS[FIRST][:1000])
    server.behave = deaf
    lookup.fetch("mnist")
    assert held() == WHOLE


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


def boastful(handler, name, start):
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**12))
    handler.end_headers()
    return True


def short(handler, name, start):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENTS[name]) + 5))
    handler.end_headers()
    handler.wfile.write(CONTENTS[name])
    return True


def altered(handler, name, start):
    body = bytearray(CONTENTS[name])
    if name == "t10k-labels-idx1-ubyte.gz":
        other, _ = file_writers.mnist(ROWS, seed=1)
        body = other[name]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
    return True


def rubbish(handler, name, start):
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


def nonsense(handler, name, start):
    handler.wfile.write(b"SSH-2.0-hello\r\n")
    return True


BAD = {
    missing: "answered 404",
    hanging: "did not answer|cannot be read: timed out",
    dripping: "abandoned as too slow",
    endless: "sent more than the",
    boastful: "announces 1000000000000 bytes",
    short: "ended after",
    altered: "content sha256",
    rubbish: "whole gzip file",
    resetting: "broke off|ended after",
    nonsense: "cannot be read",
}


@pytest.mark.parametrize("behave", BAD, ids=lambda f: f.__name__)
def test_bad_source_is_a_clear_message_and_leaves_no_set(behave, mnist, server):
    server.behave = behave
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match=BAD[behave]) as caught:
        lookup.fetch("mnist")
    assert time.monotonic() - start < 5
    assert server.address in str(caught.value) and "by hand" in str(caught.value)
    assert not any(name.startswith("mnist") for name in held())
    server.behave = None
    lookup.fetch("mnist")
    assert held() == WHOLE


@pytest.mark.parametrize("behave", BAD, ids=lambda f: f.__name__)
def test_second_source_after_the_first_fails(behave, mnist, server, second):
    mnist(server, second)
    server.behave = behave
    said = []
    lookup.fetch("mnist", said.append)
    assert held() == WHOLE and any("trying the next source" in line for line in said)


def test_nobody_listens(mnist):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        mnist(Source("web", f"http://127.0.0.1:{unused.getsockname()[1]}/", NAMES))
        with pytest.raises(FileNotFoundError, match="refused"):
            lookup.fetch("mnist")


def test_full_disk_while_fetching(mnist, monkeypatch):
    monkeypatch.setattr(download, "_transfer", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match=r"no room for mnist .* DGMZOO_CACHE"):
        lookup.fetch("mnist")
    assert held() == set()


def test_full_disk_while_caching_goes_on_without(mnist, monkeypatch):
    def full(path, array, **kwargs):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(np, "save", full)
    with pytest.warns(UserWarning, match="could not cache mnist"):
        arrays, _ = lookup.load_arrays("mnist")
    np.testing.assert_array_equal(arrays["train/x"], ARRAYS["train/x"])
    assert not any("npy" in name for name in held())


FETCH = """
import sys
from dataclasses import replace
from dgmzoo.data import lookup, registry
from dgmzoo.data.entry import Source
address, sha256, *names = sys.argv[1:]
source = Source("web", address, {name.removesuffix(".gz"): name for name in names})
known = registry.catalogue()
changes = dict(splits={"train": 300, "test": 50}, download_bytes=400_000, sources=(source,), sha256=sha256)
known["mnist"] = replace(known["mnist"], **changes)
registry.catalogue = lambda: known
print(lookup.load_arrays("mnist", lambda message: print(message, file=sys.stderr))[1])
"""


def another(server) -> subprocess.Popen:
    """Another process that fetches the same set."""
    command = [sys.executable, "-c", FETCH, server.address, lookup.digest(ARRAYS), *CONTENTS]
    environment = {**os.environ, "PYTHONPATH": str(Path(dgmzoo.__file__).parents[1])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_at_once_fetch_once(mnist, server):
    server.behave = lambda handler, name, start: time.sleep(0.3)
    workers = [another(server) for _ in range(3)]
    answers = [worker.communicate(timeout=60) for worker in workers]
    assert {out.strip() for out, _ in answers} == {lookup.digest(ARRAYS)}, answers
    assert len(server.requests) == 4 and held() == WHOLE
    assert sum("waiting for another process" in err for _, err in answers) == 2


def test_a_fetch_killed_midway_leaves_no_set_and_goes_on(mnist, server):
    def stuck(handler, name, start):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENTS[FIRST])))
        handler.end_headers()
        handler.wfile.write(CONTENTS[FIRST][:131_072])
        handler.wfile.flush()
        time.sleep(60)

    server.behave = stuck
    worker, until = another(server), time.monotonic() + 20
    while not any(p.stat().st_size >= 65_536 for p in cache.root().rglob("*.part")) and time.monotonic() < until:
        time.sleep(0.01)
    worker.kill()
    worker.communicate()
    assert held() and not (cache.root() / "mnist").exists()
    server.behave = None
    lookup.fetch("mnist")
    assert held() == WHOLE and server.requests[1][1] >= 65_536
