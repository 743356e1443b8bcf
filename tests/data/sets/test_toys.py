"""Toy sets follow the distributions that their entries state."""

import numpy as np
import pytest
from scipy import stats

from dgmzoo.data import Data, load_dataset
from dgmzoo.data.sets import toys


def test_checkerboard_is_uniform_on_its_squares_and_sampled_by_the_seed():
    data = load_dataset(Data("toy_checkerboard"))
    assert [len(rows["x"]) for rows in data.splits.values()] == [10_000, 1_000, 10_000] and data.shape == (2,)
    x = np.concatenate([rows["x"] for rows in data.splits.values()])
    squares = np.floor((x + 4) / 2).astype(int)
    assert x.min() >= -4 and x.max() <= 4 and ((squares[:, 0] + squares[:, 1]) % 2 == 0).all()
    _, counts = np.unique(squares @ [4, 1], return_counts=True)
    assert len(counts) == 8 and stats.chisquare(counts).pvalue > 1e-3
    assert load_dataset(Data("toy_checkerboard")).sha256 == data.sha256
    assert load_dataset(Data("toy_checkerboard", seed=1)).sha256 != data.sha256


def test_gaussians_are_an_equal_mixture_of_normals():
    x = load_dataset(Data("toy_gaussians")).splits["train"]["x"].astype(np.float64)
    centres = 2 * np.exp(1j * np.arange(8) * np.pi / 4)
    nearest = np.abs((x @ [1, 1j])[:, None] - centres).argmin(1)
    assert stats.chisquare(np.bincount(nearest, minlength=8)).pvalue > 1e-3
    noise = (x @ [1, 1j] - centres[nearest]).view(float).reshape(-1) / 0.2
    assert stats.kstest(noise, "norm").pvalue > 1e-3


def test_sparse_linear_has_independent_normal_noise_and_eight_coefficients():
    data = load_dataset(Data("toy_sparse_linear", seed=4))
    train, test = data.splits["train"], data.splits["test"]
    assert train["context"].shape == (300, 200) and test["context"].shape == (1000, 200) and data.shape == (1,)
    coefficients = toys.sparse_coefficients(4)
    assert (coefficients != 0).sum() == 8 and np.linalg.norm(coefficients) == pytest.approx(1)
    magnitudes = np.abs(coefficients[coefficients != 0])
    assert magnitudes.max() / magnitudes.min() <= 4 and (toys.sparse_coefficients(5) != coefficients).any()
    context = np.concatenate([rows["context"] for rows in (train, test)])
    noise = np.concatenate([rows["x"] for rows in (train, test)])[:, 0] - context @ coefficients
    assert stats.kstest(noise / 0.5, "norm").pvalue > 1e-3 < stats.kstest(context.ravel(), "norm").pvalue
    assert np.abs(context.T @ noise / len(noise)).max() < 0.5 * 4.5 / np.sqrt(len(noise))
