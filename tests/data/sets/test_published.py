"""The published sets under DGMZOO_DATA: digests, published statistics and previews. Skipped without the files."""

import time

import numpy as np
import pytest

from dgmzoo.data import Data, catalogue, load_dataset, lookup, summarize
from dgmzoo.report.pictures.draw import picture

pytestmark = pytest.mark.usefixtures("benchmark_data")

SETS = [name for name, entry in catalogue().items() if entry.sha256]
MEANS = {  # of x over its maximum, in train (or all) as stored
    "mnist": 0.1307,
    "fashion_mnist": 0.2860,
    "caltech101_silhouettes": 1 - 0.5511,
    "freyfaces": 0.6058,
    "adult": 0.1127,
    "connect4": 1 / 3,
    "dna": 0.2537,
    "mushrooms": 0.1875,
    "nips": 0.3678,
    "nltcs": 0.3317,
    "ocr_letters": 0.2197,
}


def test_every_set_with_a_digest_is_tested():
    assert len(SETS) == 23 and set(MEANS) < set(SETS)


LARGE = ("omniglot_lake",)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.thorough] * (name in LARGE)) for name in SETS])
def test_set_is_loaded_verified_and_previewed(name, tmp_path):
    data, entry = load_dataset(Data(name)), catalogue()[name]
    assert data.sha256 == entry.sha256 == lookup.verify(name)
    assert sum(len(rows["x"]) for rows in data.splits.values()) == sum(entry.splits.values())
    text = summarize(data)
    assert name in text and len(text.splitlines()) > 3
    assert picture(data).save(tmp_path / f"{name}.png").stat().st_size > 2000


@pytest.mark.parametrize("name", MEANS)
def test_mean_equals_the_published_one(name):
    arrays, _ = lookup.load_arrays(name)
    x = arrays.get("train/x", arrays.get("all/x"))
    np.testing.assert_allclose(x.mean() / catalogue()[name].maximum, MEANS[name], atol=1e-4)


def test_label_counts_equal_the_published_ones():
    counts = np.bincount(lookup.load_arrays("mnist")[0]["train/label"])
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # LeCun's page
    assert (np.bincount(lookup.load_arrays("fashion_mnist")[0]["train/label"]) == 6000).all()
    assert (np.bincount(lookup.load_arrays("omniglot_lake")[0]["test/label"])[964:] == 20).all()
    assert len(np.unique(lookup.load_arrays("20news")[0]["train/label"])) == 20
    assert (np.bincount(lookup.load_arrays("fsdd")[0]["test/label"]) == 30).all()


def test_tables_have_the_columns_of_the_rnade_paper():
    sizes = {name: load_dataset(Data(name)).shape for name in catalogue() if catalogue()[name].folds}
    assert sizes == {
        "winequality_red": (11,),
        "winequality_white": (11,),
        "parkinsons": (15,),
        "ionosphere": (32,),
    }


def test_treebank_has_the_published_vocabulary_and_token_counts():
    data = load_dataset(Data("ptb"))
    assert len(data.vocabulary) == 10_000 and {"<unk>", "<eos>", "N"} <= set(data.vocabulary)
    tokens = {split: int(rows["mask"].sum()) for split, rows in data.splits.items()}
    assert tokens == {"train": 929_589, "valid": 73_760, "test": 82_430}  # Mikolov's counts, ends included


def test_chorales_have_the_published_lengths():
    data = load_dataset(Data("jsb_chorales"))
    assert data.shape == (160, 88)
    rows = data.splits["train"]
    assert rows["mask"].sum(1).max() == 129 and (rows["x"].sum((1, 2)) > 0).all()


def test_binarized_mnist_has_the_pixel_means_of_mnist():
    ones = lookup.load_arrays("binarized_mnist")[0]["test/x"].reshape(10_000, -1).mean(0)
    gray = lookup.load_arrays("mnist")[0]["test/x"].reshape(10_000, -1).mean(0) / 255
    np.testing.assert_allclose(ones, gray, atol=5 * 0.5 / 100)


def test_cached_set_is_loaded_within_half_a_second():
    load_dataset(Data("mnist"))
    start = time.perf_counter()
    load_dataset(Data("mnist", num_validation=10_000))
    assert time.perf_counter() - start < 0.5
