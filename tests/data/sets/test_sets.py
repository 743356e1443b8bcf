"""Each decoder on generated files of the published form; the two forms of one set have one digest."""

import io
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from dgmzoo.data import catalogue, lookup
from dgmzoo.data.readers import tables
from dgmzoo.data.readers.text import decode_vocabulary
from tests.support.file_writers import clip

SPLITS = ("train", "valid", "test")


def test_caltech_is_turned_upright_with_ones_for_the_object(folder, registered, random):
    rows = {"train": 7, "val": 5, "test": 4}
    images = {stem: random.integers(0, 2, (num, 28, 28)) for stem, num in rows.items()}
    stored = {f"{s}_data": (1 - x).transpose(0, 2, 1).reshape(-1, 784).astype(float) for s, x in images.items()}
    stored |= {f"{s}_labels": np.arange(1, num + 1.0)[:, None] for s, num in rows.items()}
    savemat(folder("caltech101_silhouettes") / "caltech101_silhouettes_28_split1.mat", stored)
    registered("caltech101_silhouettes", splits={"train": 7, "valid": 5, "test": 4})
    arrays, _ = lookup.load_arrays("caltech101_silhouettes")
    np.testing.assert_array_equal(arrays["valid/x"][..., 0], images["val"])
    assert arrays["test/label"].tolist() == [0, 1, 2, 3]


def test_freyfaces_are_columns(folder, registered, random):
    faces = random.integers(0, 256, (12, 28, 20)).astype(np.uint8)
    savemat(folder("freyfaces") / "frey_rawface.mat", {"ff": faces.reshape(12, 560).T})
    registered("freyfaces", splits={"all": 12})
    np.testing.assert_array_equal(lookup.load_arrays("freyfaces")[0]["all/x"][..., 0], faces)


def test_omniglot_of_burda(folder, registered, random):
    images = {"data": random.random((9, 28, 28)), "testdata": random.random((4, 28, 28))}
    stored = {name: x.transpose(0, 2, 1).reshape(-1, 784).T for name, x in images.items()}
    savemat(folder("omniglot") / "chardata.mat", stored)
    registered("omniglot", splits={"train": 9, "test": 4})
    arrays, _ = lookup.load_arrays("omniglot")
    np.testing.assert_allclose(arrays["test/x"][..., 0], images["testdata"], rtol=1e-6)


def test_omniglot_of_lake_from_npz_and_from_png(folder, registered, random, empty_cache, tmp_path):
    import shutil

    from PIL import Image

    white = {
        "background": random.random((3, 20, 105, 105)) > 0.1,
        "evaluation": random.random((2, 20, 105, 105)) > 0.1,
    }
    for part, x in white.items():
        np.savez(folder("omniglot_lake") / f"images_{part}.npz", images=x, labels=np.zeros(x.shape[:2], int))
    registered("omniglot_lake", splits={"train": 60, "test": 40})
    arrays, digest = lookup.load_arrays("omniglot_lake")
    np.testing.assert_array_equal(arrays["train/x"][..., 0], ~white["background"].reshape(60, 105, 105))
    assert arrays["test/label"].tolist() == [3] * 20 + [4] * 20
    shutil.rmtree(empty_cache)
    for part, x in white.items():
        (folder("omniglot_lake") / f"images_{part}.npz").unlink()
        with zipfile.ZipFile(folder("omniglot_lake") / f"images_{part}.zip", "w") as archive:
            for at in np.ndindex(*x.shape[:2]):
                out = io.BytesIO()
                Image.fromarray(x[at]).save(out, "PNG")
                archive.writestr(f"images/Greek/character{at[0]:02}/{at[0]:04}_{at[1]:02}.png", out.getvalue())
    assert lookup.load_arrays("omniglot_lake")[1] == digest


def test_cifar10(folder, registered, random):
    images = random.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    labels = random.integers(0, 10, 12).astype(np.uint8)
    records = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(12, -1)], 1)
    entry = registered("cifar10", splits={"train": 10, "test": 2})
    for name, part in zip(entry.files, np.split(records, 6), strict=True):
        (folder("cifar10") / name).write_bytes(part.tobytes())
    arrays, _ = lookup.load_arrays("cifar10")
    np.testing.assert_array_equal(arrays["train/x"], images[:10])
    np.testing.assert_array_equal(arrays["test/label"], labels[10:])


def libsvm(x: np.ndarray) -> str:
    return "".join("-1 " + " ".join(f"{i + 1}:1" for i in np.flatnonzero(row)) + "\n" for row in x)


def amat(x: np.ndarray) -> str:
    return "".join(" ".join(map(str, [*row, 0])) + "\n" for row in x)  # the last value is a target


def comma(x: np.ndarray) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in x)


FORMS = {
    "connect4": libsvm,
    "dna": libsvm,
    "mushrooms": libsvm,
    "web": libsvm,
    "nips": amat,
    "rcv1": amat,
    "nltcs": comma,
}


@pytest.mark.parametrize("name", FORMS)
def test_binary_vectors_from_text_and_npz_have_one_digest(name, folder, registered, random, empty_cache):
    import shutil

    size = catalogue()[name].shape[0]
    x = {split: random.integers(0, 2, (num, size)) for split, num in zip(SPLITS, (30, 9, 8), strict=True)}
    entry = registered(name, splits={split: len(rows) for split, rows in x.items()})
    for file, rows in zip(entry.alternatives[0], x.values(), strict=True):
        (folder(name) / file).write_text(FORMS[name](rows))
    arrays, digest = lookup.load_arrays(name)
    assert {r.tobytes() for r in arrays["valid/x"]} == {r.astype(np.uint8).tobytes() for r in x["valid"]}
    shutil.rmtree(empty_cache)
    np.savez(folder(name) / entry.files[0], **{split: random.permutation(rows) for split, rows in x.items()})
    assert lookup.load_arrays(name)[1] == digest


def test_binary_vectors_that_are_not(folder, registered):
    registered("web", splits={"train": 1, "valid": 1, "test": 1})
    for text, message in [
        ("+1 301:1\n", "ids 1 to 300"),
        ("+1 5:2\n", "of 0 and 1"),
        ("1 0\n", "table of numbers"),
    ]:
        for name in catalogue()["web"].alternatives[0]:
            (folder("web") / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            lookup.load_arrays("web")


def test_newsgroups(folder, registered):
    place = folder("20news")
    (place / "train.feat").write_text("1 1:3 2000:1\n20 7:2\n3 5:1\n")
    (place / "test.feat").write_text("2 6:4\n")
    (place / "vocab.new").write_text("".join(f"word{i} {i}\n" for i in range(2000)))
    registered("20news", splits={"train": 3, "test": 1})
    arrays, _ = lookup.load_arrays("20news")
    assert arrays["train/x"].sum(1).tolist() == [4, 2, 1] and arrays["train/x"][0, [0, 1999]].tolist() == [
        3,
        1,
    ]
    assert arrays["train/label"].tolist() == [0, 19, 2]
    assert decode_vocabulary(arrays["meta/words"])[5] == "word5"


def test_treebank(folder, registered):
    texts = {"train": " the cat \n the <unk> sat \n", "valid": " cat \n", "test": " the the cat \n"}
    for split, text in texts.items():
        (folder("ptb") / f"ptb.{split}.txt").write_text(text)
    registered("ptb", splits={"train": 2, "valid": 1, "test": 1})
    arrays, _ = lookup.load_arrays("ptb")
    words = decode_vocabulary(arrays["meta/words"])
    assert words[:2] == ("<eos>", "the")  # twice each in train, then by the alphabet
    spelt = [" ".join(words[t] for t in x[m]) for x, m in zip(arrays["test/x"], arrays["test/mask"], strict=True)]
    assert spelt == ["the the cat <eos>"]
    (folder("ptb") / "ptb.test.txt").write_text(" dog \n")
    registered("ptb", splits={"train": 2, "valid": 1, "test": 1}, sha256="0")
    with pytest.raises(ValueError, match="'dog' in line 1"):
        lookup.load_arrays("ptb")


def test_spoken_digits(folder, registered, random):
    clips = {f"{d}_ann_{i}": random.integers(-900, 900, 50 + 10 * i) for d in (0, 7) for i in (0, 4, 5)}
    with zipfile.ZipFile(folder("fsdd") / "recordings.zip", "w") as archive:
        for name, samples in clips.items():
            archive.writestr(f"free-spoken-digit-dataset-master/recordings/{name}.wav", clip(samples))
        archive.writestr("free-spoken-digit-dataset-master/README.md", "text")
    registered("fsdd", splits={"train": 2, "test": 4})
    arrays, _ = lookup.load_arrays("fsdd")
    assert arrays["train/label"].tolist() == [0, 7] and arrays["test/label"].tolist() == [0, 0, 7, 7]
    np.testing.assert_array_equal(arrays["test/x"][3][arrays["test/mask"][3]], clips["7_ann_4"])
    with zipfile.ZipFile(folder("fsdd") / "recordings.zip", "w") as archive:
        archive.writestr("recordings/0_ann_0.wav", clip(np.zeros(9), rate=16000))
    registered("fsdd", splits={"train": 2, "test": 4}, sha256="0")
    with pytest.raises(ValueError, match="16000 Hz"):
        lookup.load_arrays("fsdd")


@pytest.mark.parametrize("name", ["jsb_chorales", "nottingham", "musedata", "piano_midi"])
def test_piano_rolls(name, folder, registered, random):
    rolls = {
        split: [random.integers(0, 2, (3 + at, 88)) for at in range(num)]
        for split, num in zip(SPLITS, (4, 2, 3), strict=True)
    }
    stored = {}
    for split, rows in rolls.items():
        stored[f"{split}data"] = np.empty((1, len(rows)), object)
        stored[f"{split}data"][0] = [row.astype(float) for row in rows]
    entry = registered(name, splits={"train": 4, "valid": 2, "test": 3})
    savemat(folder(name) / entry.files[0], stored)
    arrays, _ = lookup.load_arrays(name)
    assert arrays["test/x"].shape == (3, 6, 88)
    for x, mask, roll in zip(arrays["test/x"], arrays["test/mask"], rolls["test"], strict=True):
        np.testing.assert_array_equal(x[mask], roll)
        assert not x[~mask].any()


def test_drop_correlated_drops_the_first_of_each_pair():
    random = np.random.default_rng(0)
    a, b, c = random.normal(size=(3, 4000))
    x = np.stack([a, b, a + 0.01 * c, c, b + 0.01 * a, -a], 1)
    np.testing.assert_array_equal(tables.drop_correlated(x), x[:, [2, 3, 4, 5]])


def test_repeating_looks_at_the_smallest_value():
    x = np.random.default_rng(0).normal(size=(100, 3))
    x[:6, 0], x[:5, 1], x[:50, 2] = -9, -9, 9
    assert tables.has_repeated_minimum(x).tolist() == [True, False, False]


def test_power_has_the_papers_noise_splits_and_normalisation(folder, registered, random):
    x = random.normal(3, 2, (1000, 9 - 1))
    np.save(folder("power") / "power.npy", x)
    registered("power", splits={"train": 810, "valid": 90, "test": 100})
    arrays, _ = lookup.load_arrays("power")
    both = np.concatenate([arrays["train/x"], arrays["valid/x"]])
    np.testing.assert_allclose(both.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(both.std(0), 1, rtol=1e-5)
    shuffled = x.copy()
    np.random.RandomState(42).shuffle(shuffled)
    last = shuffled[:, -1]  # the time of day takes no noise
    np.testing.assert_allclose(arrays["test/x"][:, -1], (last[900:] - last[:900].mean()) / last[:900].std(), rtol=1e-4)
    for column, published, width in ((0, 0, 0.001), (1, 2, 0.01), (2, 4, 1), (3, 5, 1), (4, 6, 1)):
        raw = np.concatenate([both, arrays["test/x"]])[:, column]
        slope, start = np.polyfit(raw, shuffled[:, published], 1)
        assert np.abs(slope * raw + start - shuffled[:, published]).max() < 1.1 * width


def test_gas_hepmass_miniboone(folder, registered, random):
    x = random.normal(size=(1000, 10))
    x[:, 3] = x[:, 4] + 1e-3 * x[:, 0]
    np.save(folder("gas") / "gas.npy", np.delete(x, 9, 1))
    registered("gas", splits={"train": 810, "valid": 90, "test": 100})
    arrays, _ = lookup.load_arrays("gas")
    np.testing.assert_allclose(np.concatenate(list(arrays.values())).std(0, ddof=1), 1, rtol=1e-4)
    np.save(folder("miniboone") / "miniboone.npy", random.normal(size=(1000, 43)))
    registered("miniboone", splits={"train": 810, "valid": 90, "test": 100})
    lookup.load_arrays("miniboone")
    signal, columns = np.arange(400) % 2, random.normal(5, 2, (400, 23))
    columns[:, 7] = random.integers(0, 3, 400)
    columns[1:13:2, 9], columns[1:11:2, 11] = -9, -9  # six times among the signal rows goes, five stays
    head = ",".join(["label", *(f"f{i}" for i in range(23))])
    np.savetxt(folder("hepmass") / "1000_train.csv", np.c_[signal, columns], delimiter=",", header=head, comments="")
    test = np.c_[signal, columns, np.ones(400)][:100]
    np.savetxt(folder("hepmass") / "1000_test.csv", test, delimiter=",", header=head + ",mass", comments="")
    registered("hepmass", splits={"train": 180, "valid": 20, "test": 50})
    arrays, _ = lookup.load_arrays("hepmass")
    left = np.delete(columns, (7, 9), 1)[signal == 1]
    want = (left[:50] - left.mean(0)) / left.std(0, ddof=1)
    np.testing.assert_allclose(arrays["test/x"], want, rtol=1e-4, atol=1e-5)


def test_bsds300(folder, registered, random):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder("bsds300") / "BSDS300.hdf5", "w") as out:
        for name, num in (("train", 20), ("validation", 5), ("test", 6)):
            out[name] = random.normal(size=(num, 63))
    registered("bsds300", splits={"train": 20, "valid": 5, "test": 6})
    assert lookup.load_arrays("bsds300")[0]["valid/x"].shape == (5, 63)


def test_bsds300_without_h5py(folder, registered, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (folder("bsds300") / "BSDS300.hdf5").write_bytes(b"")
    with pytest.raises(ValueError, match="pip install h5py"):
        lookup.load_arrays("bsds300")


def test_parkinsons_and_ionosphere(folder, registered, random):
    x = random.normal(size=(50, 22))
    lines = ["\t".join(["subject#", *(f"c{i}" for i in range(21))]), *("\t".join(map(str, row)) for row in x)]
    (folder("parkinsons") / "parkinsons_updrs.data").write_text("\n".join(lines))
    registered("parkinsons", splits={"all": 50}, shape=(19,))
    np.testing.assert_allclose(lookup.load_arrays("parkinsons")[0]["all/x"], x[:, 3:], rtol=1e-6)
    x = random.normal(size=(50, 34))
    (folder("ionosphere") / "ionosphere.data").write_text("\n".join(",".join([*map(str, row), "g"]) for row in x))
    registered("ionosphere", splits={"all": 50})
    np.testing.assert_allclose(lookup.load_arrays("ionosphere")[0]["all/x"], x[:, 2:], rtol=1e-6)
