"""Decoders refuse files that are damaged, of another shape, or far too large, with a clear message."""

import gzip
import io
import shutil
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dgmzoo.data import catalogue, lookup
from tests.support import file_writers


def with_one_byte_changed(whole: bytes, step: int):
    """Yield the content of a file with one byte changed, at every `step`-th position."""
    for position in range(0, len(whole), step):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        yield bytes(damaged)


def count_refused(name: str, path, step: int, cache_folder) -> int:
    """Number of damaged files refused by a ValueError that names the file; the others must have the same content."""
    digest, refused = lookup.load_arrays(name)[1], 0
    for content in with_one_byte_changed(path.read_bytes(), step):
        path.write_bytes(content)
        shutil.rmtree(cache_folder)
        try:
            assert lookup.load_arrays(name)[1] == digest
        except ValueError as error:
            assert path.name in str(error)
            refused += 1
    return refused


def test_zip_of_sounds_or_images_with_a_changed_byte_is_refused_or_equal(folder, registered, random, empty_cache):
    path = folder("fsdd") / "recordings.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("0_ann_0", "0_ann_7"):
            archive.writestr(f"recordings/{name}.wav", file_writers.wav_bytes(random.integers(-9, 9, 700)))
    registered("fsdd", splits={"train": 1, "test": 1})
    assert count_refused("fsdd", path, 17, empty_cache) > 50
    for part in ("background", "evaluation"):
        path = folder("omniglot_lake") / f"images_{part}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(20):
                out = io.BytesIO()
                Image.fromarray(random.random((105, 105)) > 0.1).save(out, "PNG")
                archive.writestr(f"images/Greek/character00/{number:04}.png", out.getvalue())
    registered("omniglot_lake", splits={"train": 20, "test": 20})
    assert count_refused("omniglot_lake", path, 997, empty_cache) > 20


def test_other_content_in_intact_containers_is_refused(folder, registered, random):
    cells = np.empty((1, 2), object)
    cells[0] = [np.eye(3), np.eye(2)]
    savemat(folder("freyfaces") / "frey_rawface.mat", {"ff": cells})
    with pytest.raises(ValueError, match=r"ff to be a matrix of numbers in .*frey_rawface\.mat"):
        lookup.load_arrays("freyfaces")
    stems = [f"{stem}_{field}" for stem in ("train", "val", "test") for field in ("data", "labels")]
    savemat(folder("caltech101_silhouettes") / "caltech101_silhouettes_28_split1.mat", dict.fromkeys(stems, cells))
    with pytest.raises(ValueError, match="train_data to be a matrix of numbers"):
        lookup.load_arrays("caltech101_silhouettes")
    for part in ("background", "evaluation"):
        np.savez(folder("omniglot_lake") / f"images_{part}.npz", pictures=np.zeros(3))
    with pytest.raises(ValueError, match=r"expected images .* in .*images_background\.npz"):
        lookup.load_arrays("omniglot_lake")


def test_unexpected_error_of_a_decoder_names_the_folder(folder, registered, monkeypatch):
    (folder("web") / "web.npz").write_bytes(b"")
    for kind in (KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError, RuntimeError):
        monkeypatch.setattr(
            "dgmzoo.data.readers.binary.vectors", lambda *args, kind=kind: (_ for _ in ()).throw(kind("odd"))
        )
        with pytest.raises(ValueError, match=f"files of web as published, got others in {folder('web')} .*odd"):
            lookup.load_arrays("web")


def test_damaged_wav_is_refused(folder, registered):
    sound = file_writers.wav_bytes(np.arange(90))
    for content in (sound[:30], sound[:20] + bytes(9) + sound[29:], b"RIFF" + b"\xff" * 60):
        with zipfile.ZipFile(folder("fsdd") / "recordings.zip", "w") as archive:
            archive.writestr("0_ann_0.wav", content)
        with pytest.raises(ValueError, match="expected a wav file"):
            lookup.load_arrays("fsdd")


def test_rows_are_counted_before_memory_is_allocated(folder, registered, monkeypatch):
    """A few short lines or clips that would be padded to terabytes."""
    (folder("ptb") / "ptb.train.txt").write_text("a\n" * 300_000 + "a " * 300_000)
    for split in ("valid", "test"):
        (folder("ptb") / f"ptb.{split}.txt").write_text("a\n")
    monkeypatch.setattr(np, "zeros", lambda *args, **kwargs: pytest.fail("allocated"))
    with pytest.raises(ValueError, match="ptb with rows"):
        lookup.load_arrays("ptb")
    registered("ptb", splits={"train": 300_001, "valid": 1, "test": 1})
    with pytest.raises(ValueError, match=r"at most once padded, got 18\d{10}"):
        lookup.load_arrays("ptb")
    for split in ("train", "test"):
        (folder("20news") / f"{split}.feat").write_text("1\n" * 1_000_000)
    (folder("20news") / "vocab.new").write_text("")
    with pytest.raises(ValueError, match="expected 11268 lines, got 1000000"):
        lookup.load_arrays("20news")
    for name in catalogue()["web"].alternatives[0]:
        (folder("web") / name).write_text("1:1\n" * 1_000_000)
    with pytest.raises(ValueError, match="expected 14000 lines, got 1000000"):
        lookup.load_arrays("web")


@pytest.mark.parametrize("name", ["binarized_mnist", "winequality_red", "nltcs", "rcv1", "20news", "digits"])
def test_packed_file_far_larger_than_published_is_refused(name, folder, registered):
    entry = registered(name, download_bytes=1000, splits=dict.fromkeys(catalogue()[name].splits, 20))
    for file in entry.alternatives[0] if entry.alternatives else entry.files:
        (folder(name) / f"{file}.gz").write_bytes(gzip.compress((b"0 1 " * 1000 + b"\n") * 1000, 1))
    with pytest.raises(ValueError, match=r"expected at most \d+ bytes|and \d+ in total, got more"):
        lookup.load_arrays(name)


def test_bsds300_of_another_shape_is_refused_unread(folder, registered, monkeypatch):
    """h5py itself is not needed for this: a stand-in whose arrays are never read."""

    class File(dict):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    class Huge:
        shape, dtype = (10**12, 63), np.dtype("f8")

    stand_in = type("h5py", (), {"File": lambda *_: File(train=Huge(), validation=Huge())})
    monkeypatch.setitem(sys.modules, "h5py", stand_in)
    (folder("bsds300") / "BSDS300.hdf5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected train real \(1000000, 63\), got \(1000000000000, 63\)"):
        lookup.load_arrays("bsds300")


def test_wrong_rows_shape_or_type_are_refused(folder, registered, random):
    contents, _ = file_writers.mnist_files({"train": 9, "test": 5})
    file_writers.write_files(folder("mnist"), contents)
    with pytest.raises(ValueError, match="got train 9, test 5"):
        lookup.load_arrays("mnist")
    registered("mnist", splits={"train": 9, "test": 5}, shape=(32, 32, 1))
    with pytest.raises(ValueError, match=r"uint8 \(32, 32, 1\), got uint8 \(28, 28, 1\)"):
        lookup.load_arrays("mnist")
