"""Ways to damage a run directory or a data file: each has an answer of one line, and nothing that was whole is lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.command import SMALL, run

pytestmark = [pytest.mark.thorough, pytest.mark.filterwarnings("ignore:checkpoint .* is damaged")]

WORDS = (
    "train",
    "vae/digits",
    *SMALL,
    "--training.steps",
    "4",
    "--training.batch-size",
    "10",
    "--data.encoding",
    "None",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with the data `x.npy` and the run directory `run`."""
    folder = tmp_path_factory.mktemp("damage")
    np.save(folder / "x.npy", (np.random.default_rng(0).random((100, 6)) < 0.4).astype(np.uint8))
    assert run(*WORDS, "--data.name", str(folder / "x.npy"), "--run-dir", str(folder / "run")) == 0
    return folder


def newest(folder: Path, kind: str) -> Path:
    return max((folder / "run/checkpoints" / kind).iterdir(), key=lambda path: int(path.name))


def largest_file(folder: Path) -> Path:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return max(files, key=lambda path: path.stat().st_size)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change(name: str, **values):
    def apply(folder: Path) -> None:
        path = folder / "run" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


def save(values: np.ndarray):
    return lambda folder: np.save(folder / "x.npy", values, allow_pickle=True)


REFUSED = {
    "config truncated": (lambda folder: truncate(folder / "run/config.json"), "config.json"),
    "config of another kind": (lambda folder: (folder / "run/config.json").write_text("[]"), "config.json"),
    "config missing": (lambda folder: (folder / "run/config.json").unlink(), "config.json"),
    "config of another schema": (change("config.json", schema=2), "schema"),
    "config without a seed": (change("config.json", seed="zero"), "seed"),
    "config of an unknown experiment": (change("config.json", experiment="vae/none"), "vae/none"),
    "config with an unknown field": (change("config.json", overrides={"model.latent_dims": 3}), "latent_dim"),
    "config with another value": (change("config.json", overrides={"model.latent_dim": 3}), "latent_dim"),
    "config with code of another form": (change("config.json", code={"experiment": 5}), "code"),
    "description missing": (lambda folder: (folder / "run/data.json").unlink(), "data.json"),
    "description truncated": (lambda folder: truncate(folder / "run/data.json"), "data.json"),
    "description of another kind": (change("data.json", splits=5), "description"),
    "description of another shape": (change("data.json", shape=[7]), "shape"),
    "selected parameters flipped": (lambda folder: flip(largest_file(newest(folder, "best"))), "checkpoint"),
    "selected parameters missing": (lambda folder: shutil.rmtree(folder / "run/checkpoints/best"), "selected"),
    "all checkpoints missing": (lambda folder: shutil.rmtree(folder / "run/checkpoints"), "checkpoint"),
    "manifests missing": (
        lambda folder: [path.unlink() for path in (folder / "run").rglob("manifest.json")],
        "checkpoint",
    ),
    "data truncated": (lambda folder: truncate(folder / "x.npy"), "x.npy"),
    "data of Python objects": (save(np.array([{"a": 1}] * 100)), "x.npy"),
    "data of other values": (save(np.zeros((100, 6), np.uint8)), "digest"),
    "data of another shape": (save(np.zeros((100, 5), np.uint8)), "digest"),
    "data that are text": (lambda folder: (folder / "x.npy").write_text("1,2\n"), "x.npy"),
    "data missing": (lambda folder: (folder / "x.npy").unlink(), "x.npy"),
}
HARMLESS = {
    "state garbled": lambda folder: (folder / "run/state.json").write_bytes(b"\xff"),
    "metrics missing": lambda folder: (folder / "run/metrics.jsonl").unlink(),
    "metrics half-written": lambda folder: truncate(folder / "run/metrics.jsonl"),
    "result truncated": lambda folder: truncate(folder / "run/result.json"),
    "stray files": lambda folder: [
        (path / ".DS_Store").write_bytes(b"x") for path in (folder / "run").rglob("*") if path.is_dir()
    ],
    "pictures missing": lambda folder: [path.unlink() for path in (folder / "run").glob("*.png")],
    "partial evaluation garbled": lambda folder: (folder / "run/partial-test-0.npz").write_bytes(b"PK"),
}


def copy(trained: Path, folder: Path) -> Path:
    shutil.copytree(trained, folder / "copy")
    config = folder / "copy/run/config.json"
    config.write_text(config.read_text().replace(str(trained), str(folder / "copy")))
    return folder / "copy"


def whole_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", REFUSED)
def test_damage_has_an_answer_of_one_line(name, trained, tmp_path, capfd):
    damage, named = REFUSED[name]
    folder = copy(trained, tmp_path)
    damage(folder)
    before = whole_files(folder)
    assert run("evaluate", str(folder / "run")) == 2
    answer = capfd.readouterr().err
    assert "Traceback" not in answer and named in answer, answer
    assert len([line for line in answer.splitlines() if line.startswith("error:")]) == 1
    assert whole_files(folder) == before


@pytest.mark.parametrize("name", HARMLESS)
def test_damage_to_other_files_leaves_the_model_usable(name, trained, tmp_path, capfd):
    folder = copy(trained, tmp_path)
    HARMLESS[name](folder)
    assert run("evaluate", str(folder / "run")) == 0
    record = json.loads((folder / "run/result-test-10.json").read_text())
    assert record["value"] == json.loads((trained / "run/result.json").read_text())["value"]
    capfd.readouterr()
