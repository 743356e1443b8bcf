"""The cache of decoded sets: choice of a local copy, damage, digests, and caches that cannot be written."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dgmzoo.data import Data, cache, load_dataset, lookup
from dgmzoo.data.entry import Source
from tests.support import file_writers
from tests.support.server import ARRAYS, COMPLETE_CACHE, FILES, ROWS, cached_files


def test_altered_cached_copy_is_decoded_again(mnist, server):
    lookup.fetch("mnist")
    path = cache.root() / "mnist" / "test-x.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"):
        arrays, _ = lookup.load_arrays("mnist")
    np.testing.assert_array_equal(arrays["test/x"], ARRAYS["test/x"])
    path.write_bytes(content[:-9])
    with pytest.warns(UserWarning, match="is damaged"):
        lookup.load_arrays("mnist")


def test_digest_is_not_computed_again_for_unchanged_files(mnist, monkeypatch):
    lookup.fetch("mnist")
    monkeypatch.setattr(cache, "digest", lambda arrays: pytest.fail("computed again"))
    assert isinstance(lookup.load_arrays("mnist")[0]["train/x"], np.memmap)


def test_verify_computes_the_digest_of_every_byte(mnist):
    with pytest.raises(FileNotFoundError, match="dgmzoo data fetch mnist"):
        lookup.verify("mnist")
    lookup.fetch("mnist")
    path = cache.root() / "mnist" / "test-x.npy"
    stamp = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    lookup.load_arrays("mnist")  # size and time are unchanged
    with pytest.raises(ValueError, match=r"is damaged.*no longer used"):
        lookup.verify("mnist")
    assert lookup.digest(lookup.load_arrays("mnist")[0]) == lookup.digest(ARRAYS) == lookup.verify("mnist")


def test_verify_refuses_an_altered_cached_copy_whose_files_are_intact(mnist, tmp_path, monkeypatch):
    file_writers.write_files(tmp_path / "data" / "mnist", FILES)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    path = lookup.fetch("mnist") / "train-x.npy"
    stamp, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(ValueError, match="is damaged"):
        lookup.verify("mnist")
    np.testing.assert_array_equal(load_dataset(Data("mnist")).splits["train"]["x"], ARRAYS["train/x"])


def test_umask_decides_who_may_read_a_cached_set(mnist):
    previous = os.umask(0o022)
    try:
        assert lookup.fetch("mnist").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(previous)


def test_unreadable_cached_copy_is_reported_and_skipped(mnist, monkeypatch):
    folder = lookup.fetch("mnist")
    denied = PermissionError(errno.EACCES, "Permission denied")

    def refuse(path, *args, **kwargs):
        if path.parent == folder:
            raise denied
        return original(path, *args, **kwargs)

    for method in ("read_text", "is_file"):
        with monkeypatch.context() as patch:
            original = getattr(Path, method)
            patch.setattr(Path, method, refuse)
            if method == "is_file":
                assert lookup.local_copy("mnist") is None
            else:
                with pytest.warns(UserWarning, match="cannot be read"):
                    lookup.load_arrays("mnist")


def test_fetch_raises_where_the_set_could_not_be_cached(mnist, monkeypatch):
    monkeypatch.setattr(np, "save", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.warns(UserWarning, match="could not cache"), pytest.raises(OSError, match="set DGMZOO_CACHE"):
        lookup.fetch("mnist")


def test_remains_of_a_killed_process_are_removed(mnist):
    remains = cache.root() / ".mnist-abcd"
    remains.mkdir(parents=True)
    (remains / "train-x.npy").write_bytes(b"half")
    lookup.fetch("mnist")
    assert cached_files() == COMPLETE_CACHE and not remains.exists()


def test_set_without_a_digest_is_decoded_again_by_a_newer_decoder(registered, tmp_path, monkeypatch):
    file_writers.write_files(tmp_path / "data" / "mnist", FILES)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    registered("mnist", splits=ROWS)
    lookup.fetch("mnist")
    file_writers.write_files(tmp_path / "data" / "mnist", file_writers.mnist_files(ROWS, seed=1)[0])
    assert lookup.load_arrays("mnist")[1] == lookup.digest(ARRAYS)
    monkeypatch.setattr(cache, "_DECODER_VERSION", -1)
    assert lookup.load_arrays("mnist")[1] == lookup.digest(file_writers.mnist_files(ROWS, seed=1)[1])


def test_copy_of_another_library_is_used_if_its_content_is_right(mnist, tmp_path, server):
    file_writers.write_files(tmp_path / "home" / "data" / "MNIST" / "raw", FILES)
    mnist(Source("copy", "~/data/MNIST/raw"), server)
    assert lookup.local_copy("mnist") == "~/data/MNIST/raw"
    lookup.fetch("mnist")
    assert not server.requests
    shutil.rmtree(cache.root())
    file_writers.write_files(tmp_path / "home" / "data" / "MNIST" / "raw", file_writers.mnist_files(ROWS, seed=1)[0])
    lookup.fetch("mnist")  # the altered copy is skipped
    assert len(server.requests) == 4 and cached_files() == COMPLETE_CACHE


def test_copy_of_keras_is_used(mnist, tmp_path, server):
    folder = tmp_path / "home" / ".keras" / "datasets"
    folder.mkdir(parents=True)
    key_of_member = {"x_train": "train/x", "y_train": "train/label", "x_test": "test/x", "y_test": "test/label"}
    members = {name: ARRAYS[key] for name, key in key_of_member.items()}
    members |= {name: members[name][..., 0] for name in ("x_train", "x_test")}
    np.savez_compressed(folder / "mnist.npz", **members)
    mnist(Source("copy", "~/.keras/datasets", {"mnist.npz": "mnist.npz"}), server)
    lookup.fetch("mnist")
    assert not server.requests and cached_files() == COMPLETE_CACHE


def test_data_folder_is_preferred_to_public_sources(mnist, tmp_path, server, monkeypatch):
    file_writers.write_files(tmp_path / "data" / "mnist", FILES)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    lookup.fetch("mnist")
    assert not server.requests


def test_data_folder_with_other_content_is_an_error(mnist, tmp_path, monkeypatch):
    file_writers.write_files(tmp_path / "data" / "mnist", file_writers.mnist_files(ROWS, seed=1)[0])
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="altered or another variant"):
        lookup.fetch("mnist")


def test_unwritable_cache_is_named_in_the_message(mnist, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DGMZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        lookup.fetch("mnist")


@pytest.mark.parametrize("is_cached", [False, True])
def test_f50_data_folder_that_does_not_exist_is_an_error(is_cached, mnist, tmp_path, monkeypatch):
    if is_cached:
        lookup.fetch("mnist")
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "dta"))
    with pytest.raises(FileNotFoundError, match=r"DGMZOO_DATA to name a folder .*dta"):
        load_dataset(Data("mnist"))


def test_f50_home_in_the_data_folder_is_expanded(mnist, tmp_path, monkeypatch):
    file_writers.write_files(tmp_path / "home" / "data" / "mnist", FILES)
    monkeypatch.setenv("DGMZOO_DATA", "~/data")
    assert lookup.local_copy("mnist") == str(tmp_path / "home" / "data" / "mnist")
