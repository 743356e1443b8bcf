"""Splits, binarization and observation: what a config means."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dgmzoo.data import Data, LazyRows, dataset, from_arrays, load_dataset, lookup, prefetch, user_data
from dgmzoo.data.observe import Observe
from dgmzoo.data.sets import toys
from tests.support import file_writers


@pytest.fixture
def small_mnist(registered, tmp_path, monkeypatch):
    """A mnist of 500 / 80 random rows."""
    contents, arrays = file_writers.mnist({"train": 500, "test": 80})
    file_writers.put(tmp_path / "data" / "mnist", contents)
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    registered("mnist", splits={"train": 500, "test": 80})
    return arrays


def test_digits_default():
    data = load_dataset(Data())
    assert {name: len(rows["x"]) for name, rows in data.splits.items()} == {
        "train": 1257,
        "valid": 180,
        "test": 360,
    }
    assert (data.shape, data.encoding, data.num_classes) == ((8, 8, 1), "dynamic", 10)
    every = np.sort(np.concatenate(list(data.row_numbers.values())))
    np.testing.assert_array_equal(every, np.arange(1797))
    assert set(data.splits["test"]["label"]) == set(range(10))


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data, published = load_dataset(Data()), load_digits()
    for split, rows in data.splits.items():
        np.testing.assert_array_equal(rows["x"][..., 0], published.images[data.row_numbers[split]])
        np.testing.assert_array_equal(rows["label"], published.target[data.row_numbers[split]])


def test_split_is_drawn_by_the_data_seed():
    first, again, other = (load_dataset(Data(seed=seed)).row_numbers["test"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert len(set(first) & set(other)) < len(first)


def test_num_validation_of_a_set_without_validation(small_mnist):
    assert set(load_dataset(Data("mnist")).splits) == {"train", "test"}
    data = load_dataset(Data("mnist", num_validation=120))
    assert [len(data.row_numbers[s]) for s in ("train", "valid", "test")] == [380, 120, 80]
    np.testing.assert_array_equal(data.splits["valid"]["x"], small_mnist["train/x"][data.row_numbers["valid"]])
    np.testing.assert_array_equal(data.splits["valid"]["label"], small_mnist["train/label"][data.row_numbers["valid"]])
    assert not set(data.row_numbers["valid"]) & set(data.row_numbers["train"])
    np.testing.assert_array_equal(data.splits["test"]["x"], small_mnist["test/x"])


def test_num_validation_pools_own_validation_rows():
    x = np.arange(40, dtype=np.float32)[:, None]
    config = from_arrays(x[:20], valid=x[20:30], test=x[30:])
    assert load_dataset(config).row_numbers["valid"].tolist() == list(range(20, 30))
    none = load_dataset(from_arrays(x[:20], valid=x[20:30], test=x[30:], num_validation=0))
    assert set(none.splits) == {"train", "test"}
    np.testing.assert_array_equal(none.splits["train"]["x"], x[:30])
    drawn = load_dataset(from_arrays(x[:20], valid=x[20:30], test=x[30:], num_validation=12))
    assert [len(rows["x"]) for rows in drawn.splits.values()] == [18, 12, 10]
    np.testing.assert_array_equal(drawn.splits["valid"]["x"][:, 0], drawn.row_numbers["valid"])


def test_static_is_one_draw_of_the_whole_set(small_mnist):
    whole = load_dataset(Data("mnist", encoding="static"))
    held = load_dataset(Data("mnist", encoding="static", num_validation=100))
    assert whole.encoding == "static" and set(np.unique(whole.splits["train"]["x"])) == {0, 1}
    for split in ("train", "valid"):
        np.testing.assert_array_equal(held.splits[split]["x"], whole.splits["train"]["x"][held.row_numbers[split]])
    np.testing.assert_array_equal(held.splits["test"]["x"], whole.splits["test"]["x"])
    other = load_dataset(Data("mnist", encoding="static", seed=1))
    assert (other.splits["test"]["x"] != whole.splits["test"]["x"]).any()
    np.testing.assert_array_equal(whole.evaluation_rows("test")["x"], whole.splits["test"]["x"])


def test_fixed_is_one_draw_whatever_part_is_asked_for(small_mnist):
    data = load_dataset(Data("mnist", num_validation=100))
    fixed = data.evaluation_rows("train")
    assert fixed["x"].dtype == np.float32 and set(np.unique(fixed["x"])) == {0.0, 1.0}
    np.testing.assert_array_equal(data.evaluation_rows("train", 7)["x"], fixed["x"][:7])
    assert data.evaluation_rows("train", 7)["label"].shape == (7,)
    np.testing.assert_array_equal(
        load_dataset(Data("mnist", num_validation=100)).evaluation_rows("train")["x"], fixed["x"]
    )


def test_threshold_and_gray(small_mnist):
    x = small_mnist["test/x"]
    rows = {"x": x}
    half = load_dataset(Data("mnist", encoding="threshold"))
    np.testing.assert_array_equal(half.evaluation_rows("test")["x"], x >= 128)
    np.testing.assert_array_equal(half.observe(jax.random.key(0), rows)["x"], x >= 128)
    gray = load_dataset(Data("mnist", encoding="gray"))
    np.testing.assert_allclose(gray.evaluation_rows("test")["x"], x / 255, rtol=1e-6)
    np.testing.assert_allclose(gray.observe(jax.random.key(0), rows)["x"], x / 255, rtol=1e-6)


def test_exactly_one_half_is_below_the_threshold():
    half = load_dataset(Data(encoding="threshold"))
    rows = {"x": np.arange(17, dtype=np.uint8)[:, None]}
    np.testing.assert_array_equal(half.observe(jax.random.key(0), rows)["x"][:, 0], np.arange(17) > 8)
    np.testing.assert_array_equal(half.evaluation_rows("test")["x"], half.splits["test"]["x"] > 8)
    share = load_dataset(from_arrays(np.tile([0.5, 0.51], (9, 1)).astype(np.float32), encoding="threshold"))
    assert share.evaluation_rows("train")["x"][0].tolist() == [0, 1]


@pytest.mark.parametrize("maximum", [16, 255])
def test_dynamic_draws_have_the_pixels_means(maximum):
    observe = jax.jit(Observe("dynamic", maximum, "images"))
    levels = np.linspace(0, maximum, 9).astype(np.uint8)
    batch = observe(jax.random.key(0), {"x": np.tile(levels, (50_001, 1))})  # an odd number of values
    assert batch["x"].dtype == jnp.float32
    for level, count in zip(levels, np.asarray(batch["x"]).sum(0), strict=True):
        assert stats.binomtest(int(count), 50_001, level / maximum).pvalue > 1e-4
    assert float(batch["x"][:, 0].max()) == 0 and float(batch["x"][:, -1].min()) == 1


def test_dynamic_halves_of_a_word_are_independent():
    half = jnp.full((64, 20_000), 0.5, jnp.float32)
    drawn = np.asarray(Observe("dynamic", None, "images")(jax.random.key(3), {"x": half.T})["x"])
    assert np.abs(np.corrcoef(drawn.T)[np.triu_indices(64, 1)]).max() < 5 / np.sqrt(20_000)


def test_observe_is_pure_and_fresh():
    observe, rows = (
        Observe("dynamic", 255, "images"),
        {"x": np.full((10, 8), 128, np.uint8), "label": np.arange(10)},
    )
    a, b, c = (observe(jax.random.key(seed), rows) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a["x"], b["x"])
    assert (a["x"] != c["x"]).any()
    np.testing.assert_array_equal(a["label"], np.arange(10))
    assert hash(observe) == hash(Observe("dynamic", 255, "images"))


def test_published_binarization_is_static_and_has_no_other(registered, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    rows = {split: random.integers(0, 2, (9, 784)) for split in ("train", "valid", "test")}
    text = {f"binarized_mnist_{s}.amat": "".join(" ".join(map(str, r)) + " \n" for r in x) for s, x in rows.items()}
    file_writers.put(tmp_path / "data" / "binarized_mnist", {name: t.encode() for name, t in text.items()})
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    registered("binarized_mnist", splits={"train": 9, "valid": 9, "test": 9})
    data = load_dataset(Data("binarized_mnist"))
    assert data.encoding == "static"
    np.testing.assert_array_equal(data.splits["valid"]["x"].reshape(9, 784), rows["valid"])
    np.testing.assert_array_equal(data.evaluation_rows("valid")["x"].reshape(9, 784), rows["valid"])
    with pytest.raises(ValueError, match="0 or 1"):
        load_dataset(Data("binarized_mnist", encoding="dynamic"))


def test_folds_of_a_table_cover_it_and_are_normalised_by_their_training_rows(registered, tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(3, 5, (203, 12)).round(4)
    lines = [";".join(f'"c{i}"' for i in range(12)), *(";".join(map(str, row)) for row in x)]
    file_writers.put(tmp_path / "data" / "uci", {"winequality-red.csv": "\n".join(lines).encode()})
    monkeypatch.setenv("DGMZOO_DATA", str(tmp_path / "data"))
    registered("winequality_red", splits={"all": 203}, random_splits={"valid": 20})
    folds = [load_dataset(Data("winequality_red", fold=fold)) for fold in range(10)]
    np.testing.assert_array_equal(np.sort(np.concatenate([f.row_numbers["test"] for f in folds])), np.arange(203))
    data = folds[3]
    assert len(data.row_numbers["valid"]) == 20 and data.encoding is None
    train = x[data.row_numbers["train"], :11]
    np.testing.assert_allclose(data.splits["train"]["x"].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(data.splits["train"]["x"].std(0), 1, rtol=1e-5)
    want = (x[data.row_numbers["test"], :11] - train.mean(0)) / train.std(0)
    np.testing.assert_allclose(data.splits["test"]["x"], want, rtol=1e-4, atol=1e-5)


def test_toys_are_drawn_by_the_seed():
    data = load_dataset(Data("toy_checkerboard"))
    assert [len(rows["x"]) for rows in data.splits.values()] == [10_000, 1_000, 10_000] and data.shape == (2,)
    x = np.concatenate([rows["x"] for rows in data.splits.values()])
    squares = np.floor((x + 4) / 2).astype(int)
    assert x.min() >= -4 and x.max() <= 4 and ((squares[:, 0] + squares[:, 1]) % 2 == 0).all()
    _, counts = np.unique(squares @ [4, 1], return_counts=True)
    assert len(counts) == 8 and stats.chisquare(counts).pvalue > 1e-3
    assert (
        load_dataset(Data("toy_checkerboard", seed=1)).sha256
        != data.sha256
        == load_dataset(Data("toy_checkerboard")).sha256
    )


def test_toy_gaussians_are_the_mixture_they_say():
    x = load_dataset(Data("toy_gaussians")).splits["train"]["x"].astype(np.float64)
    centres = 2 * np.exp(1j * np.arange(8) * np.pi / 4)
    at = np.abs((x @ [1, 1j])[:, None] - centres).argmin(1)
    assert stats.chisquare(np.bincount(at, minlength=8)).pvalue > 1e-3
    off = (x @ [1, 1j] - centres[at]).view(float).reshape(-1) / 0.2
    assert stats.kstest(off, "norm").pvalue > 1e-3


def test_a_mapped_set_is_gathered_not_copied(monkeypatch, tmp_path):
    monkeypatch.setattr(dataset, "LAZY_ABOVE_BYTES", 1000)
    x = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 1)).astype(np.uint8)
    np.save(tmp_path / "big.npy", x)
    data = load_dataset(Data(str(tmp_path / "big.npy"), encoding="dynamic"))
    rows = data.splits["train"]["x"]
    assert isinstance(rows, LazyRows) and isinstance(rows.base, np.memmap) and len(rows) == 240
    np.testing.assert_array_equal(rows[np.array([[3, 1], [0, 2]])], x[data.row_numbers["train"]][[[3, 1], [0, 2]]])
    np.testing.assert_array_equal(np.asarray(rows), x[data.row_numbers["train"]])
    static = load_dataset(Data(str(tmp_path / "big.npy"), encoding="static")).splits["train"]["x"]
    assert isinstance(static, LazyRows) and static.dtype == np.uint8
    monkeypatch.setattr(dataset, "LAZY_ABOVE_BYTES", 1 << 30)
    whole = load_dataset(Data(str(tmp_path / "big.npy"), encoding="static")).splits["train"]["x"]
    assert isinstance(whole, np.ndarray)
    np.testing.assert_array_equal(static[np.array([[3, 1], [0, 2]])], whole[[[3, 1], [0, 2]]])
    np.testing.assert_array_equal(static[5], whole[5])
    np.testing.assert_array_equal(np.asarray(static), whole)
    copied = load_dataset(Data(str(tmp_path / "big.npy"), encoding="dynamic"))
    assert copied.sha256 == data.sha256
    np.testing.assert_array_equal(copied.evaluation_rows("test")["x"], data.evaluation_rows("test")["x"])


@pytest.mark.parametrize("dtype", [np.float64, np.int64, bool])
def test_a_mapped_file_of_another_dtype_is_converted_as_it_is_read(dtype, monkeypatch, tmp_path):
    monkeypatch.setattr(dataset, "LAZY_ABOVE_BYTES", 1 << 20)
    x = np.random.default_rng(0).integers(0, 2, (20_000, 200)).astype(dtype)
    np.save(tmp_path / "big.npy", x)
    want = load_dataset(from_arrays(x))
    half = x.astype(want.entry.dtype).nbytes // 2
    monkeypatch.setattr(user_data, "_CHUNK_BYTES", 1 << 20)
    tracemalloc.start()
    data = load_dataset(Data(str(tmp_path / "big.npy")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if dtype is np.float64:  # pieces of the others are small beside it
        assert peak < half + (6 << 20)
    assert isinstance(data.splits["train"]["x"], LazyRows) and data.sha256 == want.sha256
    np.testing.assert_array_equal(data.splits["train"]["x"][:9], want.splits["train"]["x"][:9])
    assert data.splits["train"]["x"][3].dtype == want.splits["train"]["x"].dtype
    np.testing.assert_array_equal(data.evaluation_rows("test")["x"], want.evaluation_rows("test")["x"])


def test_pooled_splits_are_gathered_not_copied(monkeypatch):
    x = np.random.default_rng(0).random((400, 6)).astype(np.float32)
    config = from_arrays(x[:200], valid=x[200:300], test=x[300:], num_validation=40)
    whole = load_dataset(config)
    monkeypatch.setattr(dataset, "LAZY_ABOVE_BYTES", 1000)
    data = load_dataset(config)
    for split in ("train", "valid"):
        rows = data.splits[split]["x"]
        assert isinstance(rows, LazyRows)
        np.testing.assert_array_equal(np.asarray(rows), whole.splits[split]["x"])
        at = np.array([[3, 1], [0, 39]])
        np.testing.assert_array_equal(rows[at], whole.splits[split]["x"][at])
        np.testing.assert_array_equal(rows[5], whole.splits[split]["x"][5])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoding": "sometimes"}, "data.encoding one of"),
        ({"num_validation": -1}, "data.num_validation"),
        ({"num_validation": True}, "data.num_validation"),
        ({"seed": 1.5}, "data.seed"),
        ({"fold": 10}, "0 to 9"),
        ({"name": ""}, "name of a data set"),
    ],
)
def test_bad_config_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Data(**fields)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Data(num_validation=1437), "below the 1437"),
        (Data(fold=1), "data.fold 0"),
        (Data("dgits"), "did you mean digits"),
        (Data("toy_moons", encoding="dynamic"), "got 'dynamic'; add --data.encoding None"),
    ],
)
def test_a_protocol_without_meaning_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(config)


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="train, valid, test"):
        load_dataset(Data()).evaluation_rows("dev")


def test_missing_file_is_told_apart_from_a_misspelt_set():
    with pytest.raises(FileNotFoundError, match=r"nothing at .*mine\.npy"):
        load_dataset(Data("mine.npy"))


def test_altered_benchmark_file_is_refused(small_mnist, registered, tmp_path):
    registered("mnist", splits={"train": 500, "test": 80}, sha256="0" * 64)
    with pytest.raises(ValueError, match="content sha256 0000000000000000"):
        load_dataset(Data("mnist"))


def test_digest_is_of_content_not_of_containers(small_mnist):
    assert load_dataset(Data("mnist")).sha256 == lookup.digest(small_mnist)
    assert lookup.digest({"a": np.arange(4)}) == lookup.digest({"a": np.arange(4).astype(">i8")})
    changed = {key: a.copy() for key, a in small_mnist.items()}
    changed["test/label"][3] ^= 1
    assert lookup.digest(changed) != lookup.digest(small_mnist)


def test_prefetch_keeps_order_and_passes_errors_on():
    assert list(prefetch(range(50), 3)) == list(range(50))

    def failing():
        yield 1
        raise OSError("the disk is gone")

    items = prefetch(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk is gone"):
        next(items)
    with pytest.raises(ValueError, match="at least 1"):
        next(prefetch([], 0))


def test_prefetch_stops_its_thread_when_closed():
    import threading

    made = []
    items = prefetch((made.append(i) or i for i in range(10**9)), 2)
    assert next(items) == 0
    items.close()
    assert len(made) <= 4 and not any(t.name == "dgmzoo-prefetch" for t in threading.enumerate())


def test_the_sparse_regression_is_what_it_says():
    data = load_dataset(Data("toy_sparse_linear", seed=4))
    train, test = data.splits["train"], data.splits["test"]
    assert train["context"].shape == (300, 200) and test["context"].shape == (1000, 200) and data.shape == (1,)
    coefficients = toys.sparse_coefficients(4)
    assert (coefficients != 0).sum() == 8 and np.linalg.norm(coefficients) == pytest.approx(1)
    sizes = np.abs(coefficients[coefficients != 0])
    assert sizes.max() / sizes.min() <= 4 and (toys.sparse_coefficients(5) != coefficients).any()
    context = np.concatenate([rows["context"] for rows in (train, test)])
    noise = np.concatenate([rows["x"] for rows in (train, test)])[:, 0] - context @ coefficients
    assert stats.kstest(noise / 0.5, "norm").pvalue > 1e-3 < stats.kstest(context.ravel(), "norm").pvalue
    assert np.abs(context.T @ noise / len(noise)).max() < 0.5 * 4.5 / np.sqrt(len(noise))


def test_contexts_of_ones_own():
    x, context = np.zeros((20, 2), np.float32), np.arange(60.0).reshape(20, 3)
    data = load_dataset(from_arrays({"x": x, "context": context}))
    assert data.splits["train"]["context"].shape == (16, 3)
    np.testing.assert_array_equal(data.evaluation_rows("test")["context"], context[data.row_numbers["test"]])
    with pytest.raises(ValueError, match=r"finite values in all/context"):
        load_dataset(from_arrays({"x": x, "context": context * np.nan}))
    with pytest.raises(ValueError, match="every context of arrays to have one shape"):
        load_dataset(from_arrays({"x": x, "context": context}, test={"x": x, "context": context[:, :2]}))
