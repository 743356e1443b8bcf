"""Titles, the table of facts, the mean over seeds and listings in pipes, after a training."""

import json
import subprocess
import sys

import pytest

import dgmzoo
from dgmzoo.command.output import print_seeds
from dgmzoo.report.facts import facts
from tests.support.command import ROOT, environment

CHANGES = {"training.steps": 3, "evaluation.num_samples": 3, "evaluation.num_examples": 40, "model.latent_dim": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    def closeness(evidence, batch):
        return abs(evidence.latents["z"].value).sum((0, -1))

    changes = {**CHANGES, "objective": "iwae", "objective.num_samples": 2, "extra_losses": {"closeness": closeness}}
    experiment = dgmzoo.experiment("vae/digits", changes)
    return dgmzoo.train(experiment, tmp_path_factory.mktemp("answers") / "run", progress=False)


def test_f40_the_report_says_what_was_trained(trained):
    table = facts(trained)
    assert table["model"].startswith("VAE, ") and "latent_dim 3" in table["model"]
    assert table["objective"] == "IWAE: num_samples 2" and table["extra losses"] == "closeness"
    assert table["data"].startswith("digits, x [8, 8, 1], dynamic, 1,257 train, 180 valid, 360 test")
    assert "optimizer adam" in table["optimizer"] and "learning_rate" in table["optimizer"]
    page = (trained.path / "report.html").read_text()
    assert all(title in page for title in table) and "closeness" in page
    assert page.index("latent layers") < page.index("<details>")  # the record stands folded at the end


def test_f41_titles_name_model_data_and_objective(trained):
    assert trained.title == "VAE on digits, IWAE with 2 samples, seed 0"
    assert "VAE on digits, IWAE with 2 samples" in (trained.path / "report.html").read_text()


def test_f45_several_seeds_end_with_their_mean(capsys):
    print_seeds([{"value": value, "seed": seed} for seed, value in enumerate((1.0, 2.0, 6.0))])
    assert capsys.readouterr().out == "3 seeds: mean 3.000, standard deviation 2.646 nats (seeds 0, 1, 2)\n"


def test_f45_a_list_in_a_pipe_has_a_line_an_entry_and_may_be_cut_off():
    line = f"{sys.executable} -m dgmzoo list"
    variables = {name: value for name, value in environment().items() if name != "COLUMNS"}
    done = subprocess.run(f"{line} | cat", shell=True, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert any("vae/mnist_iwae_1l" in each and "Burda" in each for each in done.stdout.splitlines())
    cut = subprocess.run(f"{line} | head -n 1", shell=True, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert cut.stderr == "" and cut.stdout.count("\n") == 1


def test_f30_a_user_without_a_home_folder_goes_on_without_a_cache():
    code = "from dgmzoo.data import cache; from dgmzoo.config import user_code; user_code.add_trusted('0'); print(cache.root())"
    variables = {
        name: value for name, value in environment().items() if name not in ("HOME", "XDG_CACHE_HOME", "DGMZOO_CACHE")
    }
    code = f"import pwd; pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid)); {code}"  # an unknown user
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0 and "/dgmzoo-" in done.stdout, done.stderr


def test_the_record_is_json(trained):
    assert json.loads((trained.path / "result.json").read_text())["model"] == "VAE"
