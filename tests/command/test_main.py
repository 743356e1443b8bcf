"""The verbs of the command: listings, training, evaluation, samples, comparison, and runs that are resumed."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.support.command import QUICK, ROOT, SMALL, environment, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("cli") / "run"
    assert run("train", "vae/digits", *QUICK, "--model.latent-dim", "2", "--run-dir", str(run_dir)) == 0
    return run_dir


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["train", "--help"], ["compare", "--help"], ["data", "list"], ["data", "--help"]]
)
def test_listings_are_quick_and_import_neither_jax_nor_tyro(words):
    code = (
        "import resource, sys\nfrom dgmzoo.command import main\n"
        f"try: main.main({words!r})\nexcept SystemExit as end: assert not end.code\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "heavy = {'jax', 'tyro', 'flax', 'numpyro', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "print('CHECK', used.ru_utime + used.ru_stime, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)
    _, seconds, heavy = done.stdout[done.stdout.index("CHECK") :].split(maxsplit=2)
    assert heavy.strip() == "[]" and float(seconds) < 0.5, done.stdout


def test_list_shows_every_experiment(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run("list") == 0
    shown = capsys.readouterr().out
    for name in (
        "vae/digits",
        "vae/mnist",
        "vae/mnist_peers",
        "vae/mnist_iwae_1l",
        "dvae/digits_sigmoid_belief_network",
        "ddnn/digits_made",
    ):
        assert name in shown
    assert "86.76" in shown


def test_a_run_leaves_report_record_and_checkpoints(trained):
    files = {path.name for path in trained.iterdir() if not path.name.startswith(".")}
    assert files == {"config.json", "data.json", "state.json", "metrics.jsonl", "checkpoints", "result.json", "samples.png", "reconstructions.png", "report.html"}  # fmt: skip
    page = (trained / "report.html").read_text()
    assert page.count("<svg") == 3 and page.count("data:image/png;base64,") == 2  # curves, KL, the latent map
    assert 'src="http' not in page and "href=" not in page.replace('xlink:href="#', "")
    config = json.loads((trained / "config.json").read_text())
    assert config["experiment"] == "vae/digits" and config["overrides"]["model.latent_dim"] == 2
    record = json.loads((trained / "result.json").read_text())
    expected = (
        "schema experiment commit dirty dataset dataset_sha256 split encoding bound num_samples value standard_error "
    )
    expected += (
        "monte_carlo_error bits_per_dim num_terms train_value seed steps ema parameters versions device seconds paper"
    )
    assert set(expected.split()) <= set(record)
    assert record["bound"] == "iw" and record["num_terms"] == 64 and record["paper"] is None
    assert record["bits_per_dim"] == pytest.approx(record["value"] / 64 / np.log(2), abs=1e-5)


def test_evaluate_and_sample(trained, capsys, tmp_path):
    assert run("evaluate", str(trained), "--num-samples", "1", "--split", "valid") == 0
    record = json.loads((trained / "result-valid-1.json").read_text())
    assert record["bound"] == "elbo" and record["split"] == "valid"
    assert run("evaluate", str(trained), "--num-samples", "2", "--num-examples", "9") == 0
    assert json.loads((trained / "result-test-2-num-examples-9.json").read_text())["num_examples"] == 9
    assert run("evaluate", str(trained), "--weight-draws", "2") == 2
    assert "random weights" in capsys.readouterr().err
    assert run("sample", str(trained), "--num", "3", "--out", str(tmp_path / "x.npy")) == 0
    drawn = np.load(tmp_path / "x.npy", allow_pickle=False)
    assert drawn.shape == (3, 8, 8, 1) and set(np.unique(drawn)) <= {0, 1}
    assert run("sample", str(trained), "--num", "3", "--out", str(tmp_path / "x.png")) == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()


def test_data_verbs(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    assert run("data", "list") == 0
    listed = capsys.readouterr().out
    for name in ("digits", "mnist", "binarized_mnist", "ptb", "power"):
        assert name in listed
    assert run("data", "show", "digits", "--out", str(tmp_path / "digits.png")) == 0
    assert "1,257" in capsys.readouterr().out and (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert run("data", "verify", "digits") == 0
    assert "sha256 070b07ff" in capsys.readouterr().out
    assert run("data", "show", "mnsit") == 2 and "did you mean" in capsys.readouterr().err
    assert run("data", "fetch") == 2 and run("data", "what") == 2


@pytest.mark.thorough
def test_bench_prints_its_figures(capsys, tmp_path):
    words = ("bench", "vae/digits", *SMALL, "--num-epochs", "2")
    assert run(*words, "--json", "--profile", str(tmp_path / "trace")) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(found) == {"seconds_per_epoch", "steps_per_second", "compile_seconds", "memory_bytes"}
    assert all(value > 0 for value in found.values())
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


@pytest.mark.thorough
def test_compare_prints_a_table_or_its_records(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("compare", "vae/digits", *SMALL, "--training.steps", "3", "--evaluation.num-examples", "20")
    words += ("--layers", " point", "--variants", "model.latent-dim=3 model.decoder.hidden=4 5")
    assert run(*words, "--seeds", "2") == 0
    shown = capsys.readouterr().out
    for said in ("point", "model.latent_dim=3", "active units", "± ", "paired seeds", "comparison.html"):
        assert said in shown
    folder = tmp_path / "runs/vae/digits/compare"
    assert {path.name for path in folder.iterdir()} >= {"comparison.html", "comparison.json", "comparison.png", "point"}  # fmt: skip
    assert run(*words, "--seeds", "2", "--json") == 0
    records = json.loads(capsys.readouterr().out)
    assert records == json.loads((folder / "comparison.json").read_text()) and len(records) == 4
    assert records[-1]["variant"] == "model.latent_dim=3 model.decoder.hidden=[4, 5]" and records[-1]["seed"] == 1


def test_run_directory_of_another_config_names_the_fields(trained, capfd):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    assert run("train", "vae/digits", *QUICK, "--model.latent-dim", "3", "--run-dir", str(trained)) == 2
    assert "model.latent_dim was 2, now 3" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


OWN = """
from __future__ import annotations

from collections.abc import Callable

import dataclasses
import flax.linen as nn
from dgmzoo import ELBO, Data, Experiment, Training
from dgmzoo import MLP, VAE, Evaluation
from neighbour import WIDTH


class Mine(VAE):
    \"\"\"A VAE of one's own.\"\"\"

    extra: int = 3
    \"\"\"A field of one's own.\"\"\"
    squash: Callable = nn.tanh


@dataclasses.dataclass(frozen=True)
class Doubled(ELBO):
    \"\"\"An objective of one's own.\"\"\"

    def __call__(self, *arguments):
        loss, rest = super().__call__(*arguments)
        return 2 * loss, rest


experiment = Experiment(
    model=Mine(latent_dim=2, encoder=MLP((WIDTH,)), decoder=MLP((WIDTH,))),
    data=Data("digits"),
    objective=Doubled(),
    training=Training(epochs=1),
    evaluation=Evaluation(num_samples=2),
)
"""


def test_a_users_file_may_define_classes(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/neighbour.py").write_text("WIDTH = 8\n")
    (tmp_path / "sub/mine.py").write_text(OWN)
    assert run("train", "sub/mine.py", "--model.extra", "4") == 0
    config = json.loads((tmp_path / "runs/mine/seed-0/config.json").read_text())
    assert config["overrides"] == {"model.extra": 4} and config["resolved"]["objective"] == "Doubled"
    monkeypatch.chdir("/")
    assert run("evaluate", str(tmp_path / "runs/mine/seed-0"), "--num-samples", "2") == 0
    (tmp_path / "sub/mine.py").write_text(OWN + "\n# changed\n")
    assert (
        run("evaluate", str(tmp_path / "runs/mine/seed-0"), "--num-samples", "2") == 0
    )  # by the copy that the run keeps
    monkeypatch.chdir(tmp_path)
    assert run("train", "sub/mine.py", "--model.extra", "4") == 2
    assert "go on with the copy that the run keeps: dgmzoo train runs/mine/seed-0" in capfd.readouterr().err


@pytest.mark.parametrize(
    "name, content",
    [("config.json", b"{"), ("config.json", b'{"schema": 1}'), ("config.json", b"[]"), ("config.json", b"\xff\xfe")],
)
def test_a_damaged_config_is_named(name, content, trained, tmp_path, capfd):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    assert run("evaluate", str(tmp_path / "run")) == 2
    told = capfd.readouterr().err
    assert name in told and "Traceback" not in told


def test_f27_a_run_directory_is_a_name_to_train_and_is_exported(trained, tmp_path, capfd):
    shutil.copytree(trained, tmp_path / "run")
    before = (tmp_path / "run/result.json").read_bytes()
    assert run("train", str(tmp_path / "run")) == 0 and (tmp_path / "run/result.json").read_bytes() == before
    assert run("train", str(tmp_path / "run"), "--training.epochs", "3") == 2  # its schedule depends on the length
    assert "training.epochs was 2, now 3" in capfd.readouterr().err
    file = str(tmp_path / "digits.zoo")
    assert run("export", str(tmp_path / "run"), file) == 0
    assert run("sample", file, "--num", "4", "--out", str(tmp_path / "x.npy")) == 0
    assert np.load(tmp_path / "x.npy").shape == (4, 8, 8, 1)
    assert run("evaluate", file) == 0
    again = json.loads((tmp_path / "digits-result-test-10.json").read_text())
    assert again["value"] == json.loads((tmp_path / "run/result.json").read_text())["value"]
    capfd.readouterr()


@pytest.mark.thorough
def test_damaged_metrics_and_result_are_made_again(trained, tmp_path, capfd):
    shutil.copytree(trained, tmp_path / "run")
    with (tmp_path / "run/metrics.jsonl").open("ab") as file:
        file.write(b'5\n{"step": "a"}\n\xff\xfe\n{"step": 3')
    for content in (b"[]", b"{}", b"nonsense"):
        (tmp_path / "run/result.json").write_bytes(content)
        assert run("train", "vae/digits", *QUICK, "--model.latent-dim", "2", "--run-dir", str(tmp_path / "run")) == 0
    expected = json.loads((trained / "result.json").read_text())
    assert json.loads((tmp_path / "run/result.json").read_text())["value"] == expected["value"]
    capfd.readouterr()


def test_lost_parameters_are_not_replaced_by_others(trained, tmp_path, capfd):
    shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/best")
    for words in (("evaluate",), ("train", "vae/digits", *QUICK, "--model.latent-dim", "2", "--run-dir")):
        assert run(*words, str(tmp_path / "run")) == 2
        assert "expected the selected parameters of step" in capfd.readouterr().err


@pytest.mark.thorough
def test_seeds_take_a_finished_run_as_it_is(trained, tmp_path, capfd):
    shutil.copytree(trained, tmp_path / "seed-0")
    before = {path: path.read_bytes() for path in (tmp_path / "seed-0").rglob("*") if path.is_file()}
    words = ("train", "vae/digits", *QUICK, "--model.latent-dim", "2", "--seeds", "2", "--run-dir", str(tmp_path))
    assert run(*words) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((tmp_path / "seed-1/result.json").read_text())["seed"] == 1
    capfd.readouterr()


@pytest.mark.thorough
def test_real_data_with_a_normal_likelihood(tmp_path, capfd):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32))
    words = ("train", "vae/digits", *QUICK, "--data.name", str(tmp_path / "mine.npy"), "--data.encoding", "None")
    assert run(*words, "--model.likelihood", "normal", "--run-dir", str(tmp_path / "run")) == 0
    record = json.loads((tmp_path / "run/result.json").read_text())
    assert record["bits_per_dim"] is None and record["num_terms"] == 5
    assert run("evaluate", str(tmp_path / "run"), "--num-samples", "2") == 0
    capfd.readouterr()


def test_f38_show_gives_the_command_of_each_published_figure(capsys):
    assert run("show", "vae/mnist_iwae_1l") == 0
    shown = capsys.readouterr().out
    assert "The one-layer VAE and IWAE of Burda et al." in shown and "model: VAE (dgmzoo.zoo.vae.vae)" in shown
    assert "dgmzoo train vae/mnist_iwae_1l --objective iwae --objective.num-samples 50" in shown
    assert "84.78  Burda et al. 2016, table 1, IWAE k = 50" in shown and "86.43 ± 0.23" in shown
    assert run("show") == 2 and run("show", "vae/none") == 2


def test_list_selects_by_a_word(capsys):
    assert run("list", "burda") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert "vae/mnist_iwae_1l" in names and "vae/digits" not in names
    assert run("list", "nothing of the kind") == 2
