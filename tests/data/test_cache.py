"""What is kept of a set, whose copy is taken, and what is done about damage."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dgmzoo.data import Data, cache, load_dataset, lookup
from dgmzoo.data.entry import Source
from tests.support import file_writers
from tests.support.server import ARRAYS, CONTENTS, ROWS, WHOLE, held


def test_altered_cache_is_noticed_and_decoded_again(mnist, server):
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


def test_digest_is_not_computed_again_on_every_start(mnist, monkeypatch):
    lookup.fetch("mnist")
    monkeypatch.setattr(cache, "digest", lambda arrays: pytest.fail("computed again"))
    assert isinstance(lookup.load_arrays("mnist")[0]["train/x"], np.memmap)


def test_verify_reads_every_byte(mnist):
    with pytest.raises(FileNotFoundError, match="dgmzoo data fetch mnist"):
        lookup.verify("mnist")
    lookup.fetch("mnist")
    path = cache.root() / "mnist" / "test-x.npy"
    stamp = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    lookup.load_arrays("mnist")  # stamps are as they were
    with pytest.raises(ValueError, match=r"is damaged.*no longer used"):
        lookup.verify("mnist")
    assert lookup.digest(lookup.load_arrays("mnist")[0]) == lookup.digest(ARRAYS) == lookup.verify("mnist")


def test_verify_does_not_bless_an_altered_copy_since_the_files_are_good(mnist, tmp_path, monkeypatch):
    file_writers.put(tmp_path / "data" / "mnist", CONTENTS)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    path = lookup.fetch("mnist") / "train-x.npy"
    stamp, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(ValueError, match="is damaged"):
        lookup.verify("mnist")
    np.testing.assert_array_equal(load_dataset(Data("mnist")).splits["train"]["x"], ARRAYS["train/x"])


def test_a_cached_set_is_as_readable_as_the_umask_says(mnist):
    before = os.umask(0o022)
    try:
        assert lookup.fetch("mnist").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_a_copy_that_may_not_be_read_is_told_and_passed_over(mnist, monkeypatch):
    folder = lookup.fetch("mnist")
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
                assert lookup.local_copy("mnist") is None
            else:
                with pytest.warns(UserWarning, match="cannot be read"):
                    lookup.load_arrays("mnist")


def test_fetch_says_when_nothing_was_kept(mnist, monkeypatch):
    monkeypatch.setattr(np, "save", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.warns(UserWarning, match="could not cache"), pytest.raises(OSError, match="set DGMZOO_CACHE"):
        lookup.fetch("mnist")


def test_what_a_killed_process_left_is_removed(mnist):
    left = cache.root() / ".mnist-abcd"
    left.mkdir(parents=True)
    (left / "train-x.npy").write_bytes(b"half")
    lookup.fetch("mnist")
    assert held() == WHOLE and not left.exists()


def test_a_set_without_digest_is_decoded_again_by_a_newer_decoder(registered, tmp_path, monkeypatch):
    file_writers.put(tmp_path / "data" / "mnist", CONTENTS)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    registered("mnist", splits=ROWS)
    lookup.fetch("mnist")
    file_writers.put(tmp_path / "data" / "mnist", file_writers.mnist(ROWS, seed=1)[0])
    assert lookup.load_arrays("mnist")[1] == lookup.digest(ARRAYS)
    monkeypatch.setattr(cache, "_DECODER_VERSION", -1)
    assert lookup.load_arrays("mnist")[1] == lookup.digest(file_writers.mnist(ROWS, seed=1)[1])


def test_a_copy_that_another_library_left(mnist, tmp_path, server):
    file_writers.put(tmp_path / "home" / "data" / "MNIST" / "raw", CONTENTS)
    mnist(Source("copy", "~/data/MNIST/raw"), server)
    assert lookup.local_copy("mnist") == "~/data/MNIST/raw"
    lookup.fetch("mnist")
    assert not server.requests
    shutil.rmtree(cache.root())
    file_writers.put(tmp_path / "home" / "data" / "MNIST" / "raw", file_writers.mnist(ROWS, seed=1)[0])
    lookup.fetch("mnist")  # a wrong copy is passed over
    assert len(server.requests) == 4 and held() == WHOLE


def test_keras_copy(mnist, tmp_path, server):
    folder = tmp_path / "home" / ".keras" / "datasets"
    folder.mkdir(parents=True)
    named = {"x_train": "train/x", "y_train": "train/label", "x_test": "test/x", "y_test": "test/label"}
    raw = {name: ARRAYS[key] for name, key in named.items()}
    np.savez_compressed(folder / "mnist.npz", **{n: a[..., 0] if n[0] == "x" else a for n, a in raw.items()})
    mnist(Source("copy", "~/.keras/datasets", {"mnist.npz": "mnist.npz"}), server)
    lookup.fetch("mnist")
    assert not server.requests and held() == WHOLE


def test_data_folder_comes_before_the_net(mnist, tmp_path, server, monkeypatch):
    file_writers.put(tmp_path / "data" / "mnist", CONTENTS)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    lookup.fetch("mnist")
    assert not server.requests


def test_data_folder_with_other_content_is_an_error_not_passed_over(mnist, tmp_path, monkeypatch):
    file_writers.put(tmp_path / "data" / "mnist", file_writers.mnist(ROWS, seed=1)[0])
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="altered or another variant"):
        lookup.fetch("mnist")


def test_unwritable_cache_is_a_clear_message(mnist, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DGMZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        lookup.fetch("mnist")
