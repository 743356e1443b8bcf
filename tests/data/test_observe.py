"""Encoding of rows as batches: dynamic, threshold, gray and classes, on the device and on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dgmzoo.data import Data, from_arrays, load_dataset
from dgmzoo.data.observe import Observe


def test_threshold_and_gray_on_host_and_device(mnist_arrays):
    x = mnist_arrays["test/x"]
    rows = {"x": x}
    binary = load_dataset(Data("mnist", encoding="threshold"))
    np.testing.assert_array_equal(binary.evaluation_rows("test")["x"], x >= 128)
    np.testing.assert_array_equal(binary.observe(jax.random.key(0), rows)["x"], x >= 128)
    gray = load_dataset(Data("mnist", encoding="gray"))
    np.testing.assert_allclose(gray.evaluation_rows("test")["x"], x / 255, rtol=1e-6)
    np.testing.assert_allclose(gray.observe(jax.random.key(0), rows)["x"], x / 255, rtol=1e-6)


def test_exactly_one_half_is_encoded_as_0():
    binary = load_dataset(Data(encoding="threshold"))
    rows = {"x": np.arange(17, dtype=np.uint8)[:, None]}
    np.testing.assert_array_equal(binary.observe(jax.random.key(0), rows)["x"][:, 0], np.arange(17) > 8)
    np.testing.assert_array_equal(binary.evaluation_rows("test")["x"], binary.splits["test"]["x"] > 8)
    fractions = load_dataset(from_arrays(np.tile([0.5, 0.51], (9, 1)).astype(np.float32), encoding="threshold"))
    assert fractions.evaluation_rows("train")["x"][0].tolist() == [0, 1]


def test_gray_levels_are_the_same_on_host_and_device():
    levels = np.arange(256, dtype=np.uint8)[:, None]
    data = load_dataset(from_arrays(levels, test=levels))
    host = data.evaluation_rows("test")["x"]
    np.testing.assert_array_equal(jax.jit(data.observe)(jax.random.key(0), {"x": levels})["x"], host)
    assert host[0] == 0 and host[-1] == 1


@pytest.mark.parametrize("maximum", [16, 255])
def test_dynamic_samples_have_the_intensities_as_means(maximum):
    observe = jax.jit(Observe("dynamic", maximum, "images"))
    levels = np.linspace(0, maximum, 9).astype(np.uint8)
    batch = observe(jax.random.key(0), {"x": np.tile(levels, (50_001, 1))})  # an odd number of values
    assert batch["x"].dtype == jnp.float32
    for level, count in zip(levels, np.asarray(batch["x"]).sum(0), strict=True):
        assert stats.binomtest(int(count), 50_001, level / maximum).pvalue > 1e-4
    assert float(batch["x"][:, 0].max()) == 0 and float(batch["x"][:, -1].min()) == 1


def test_dynamic_samples_of_two_halves_of_a_word_are_independent():
    half = jnp.full((64, 20_000), 0.5, jnp.float32)
    samples = np.asarray(Observe("dynamic", None, "images")(jax.random.key(3), {"x": half.T})["x"])
    assert np.abs(np.corrcoef(samples.T)[np.triu_indices(64, 1)]).max() < 5 / np.sqrt(20_000)


def test_observe_is_a_pure_function_of_its_key():
    observe = Observe("dynamic", 255, "images")
    rows = {"x": np.full((10, 8), 128, np.uint8), "label": np.arange(10)}
    first, repeated, other = (observe(jax.random.key(seed), rows) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["x"], repeated["x"])
    assert (first["x"] != other["x"]).any()
    np.testing.assert_array_equal(first["label"], np.arange(10))
    assert hash(observe) == hash(Observe("dynamic", 255, "images"))


def test_whole_numbers_may_be_encoded_as_classes(random):
    classes = random.integers(0, 7, (60, 5))
    data = load_dataset(from_arrays(classes, encoding="classes"))
    assert data.encoding == "classes"
    batch = data.observe(jax.random.key(0), data.splits["train"])
    for x in (batch["x"], data.evaluation_rows("train")["x"]):
        assert x.dtype == np.int32
        np.testing.assert_array_equal(x, classes[data.row_numbers["train"]])
    bits = load_dataset(from_arrays(classes > 3, encoding="classes"))
    np.testing.assert_array_equal(bits.evaluation_rows("test")["x"], (classes > 3)[bits.row_numbers["test"]])
    with pytest.raises(ValueError, match="whole numbers from 0 "):
        load_dataset(from_arrays(random.random((60, 6)), encoding="classes"))
