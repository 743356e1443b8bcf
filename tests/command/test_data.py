"""The command `dgmzoo data`: list, show, fetch and verify."""

import numpy as np
import pytest
from PIL import Image

from dgmzoo.command.data import HELP, data
from dgmzoo.data import Data, catalogue, load_dataset, lookup, preview
from tests.support.data_fixtures import benchmark_data, empty_cache  # noqa: F401


def test_list_has_a_line_for_each_set_and_marks_local_copies(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert data(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["set", *catalogue()] and max(map(len, lines)) <= 80
    local = {line.split()[0] for line in lines[1:] if line.split()[-1] == "yes"}
    assert {"digits", "toy_moons"} <= local and "binarized_mnist" not in local


@pytest.mark.parametrize("words", [[], ["--help"], ["list", "--help"], ["fetch", "-h"], ["verify", "mnist", "--help"]])
def test_help_is_printed(words, capsys):
    assert data(words) == 0 and capsys.readouterr().out == HELP


def test_show_summarizes_a_folder_and_a_file_and_saves_a_picture(tmp_path, capsys):
    (tmp_path / "pets").mkdir()
    for number in range(9):
        Image.new("L", (5, 4), 20 * number).save(tmp_path / "pets" / f"{number}.png")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(30, 4)))
    for name, start in (("pets", "pets: train 7, valid 1, test 1 of 4 x 5 x 1"), ("x.npy", "x.npy: train 24")):
        assert data(["show", str(tmp_path / name), "--out", str(tmp_path / "a.png")]) == 0
        out = capsys.readouterr().out
        assert out.startswith(start) and (tmp_path / "a.png").exists()
    assert data(["show", "cifar10"]) == 0 and "no local copy" in capsys.readouterr().out
    with pytest.raises(ValueError, match="did you mean mnist"):
        data(["show", "minst"])


def test_show_refuses_a_picture_that_is_no_png(tmp_path):
    with pytest.raises(ValueError, match=r"name a \.png file, got x"):
        data(["show", "digits", "--out", "x"])
    assert not list(tmp_path.glob("x*"))


def test_set_without_a_public_source_says_why():
    with pytest.raises(FileNotFoundError, match="Published as a pickle, which dgmzoo never reads"):
        lookup.fetch("gas")


@pytest.mark.usefixtures("benchmark_data")
def test_letters_are_previewed_as_images():
    lines = preview.summarize(load_dataset(Data("ocr_letters"))).splitlines()[2:]
    assert len(lines) == 8 and any("@@" in line for line in lines)
