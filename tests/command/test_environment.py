"""Surroundings that must not cost a result: settings of Matplotlib (F29), odd paths (F31, F33), a stop in a user's file (F57)."""

import json
import signal
import subprocess
import sys
import time

import pytest

from dgmzoo.training.run_directory import RunDirectory
from tests.support.command import QUICK, dgmzoo, environment

TRAINS = """
import dgmzoo

experiment = dgmzoo.experiment("vae/digits", {"training.epochs": 4000})
print("training", flush=True)
dgmzoo.train(experiment, progress=False)
"""


@pytest.mark.thorough
def test_f29_settings_of_matplotlib_cost_nothing(tmp_path):
    settings = tmp_path / "matplotlibrc"
    settings.write_text("text.usetex: True\nfont.family: nowhere\n")
    surroundings = {"MPLBACKEND": "module://nowhere.backend", "MATPLOTLIBRC": str(settings)}
    done = dgmzoo("train", "vae/digits", "--run-dir", "run", *QUICK, cwd=tmp_path, **surroundings)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["value"] > 0
    assert (tmp_path / "run" / "report.html").read_text().count("<svg") >= 2
    assert "not in the report" not in done.stderr


def test_f29_a_picture_that_fails_is_a_warning(monkeypatch, tmp_path):
    from dgmzoo import api
    from dgmzoo.report.pictures.tables import Bits
    from tests.support.own_entry import experiment_of
    from tests.training.test_selection import ENTRY

    def fail(*arguments):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(Bits, "draw_pairs", fail)
    with pytest.warns(UserWarning, match="the reconstructions are not in the report: RuntimeError: no fonts"):
        run = api.train(experiment_of(ENTRY), tmp_path / "run", progress=False)
    assert RunDirectory(tmp_path / "run").result() == run.record


@pytest.mark.parametrize("address", ["gs://bucket/run", "s3://bucket/run"])
def test_f31_an_address_is_no_run_directory(address):
    with pytest.raises(ValueError, match="expected a folder of this machine as run directory, got the address"):
        RunDirectory(address)


@pytest.mark.parametrize("path", ["runs/[/red]/run", "runs/*"])
def test_f33_a_path_that_checkpoints_take_for_a_pattern_is_refused(path):
    with pytest.raises(ValueError, match=r"expected a run directory without \[ \] \* \? in its path"):
        RunDirectory(path)


@pytest.mark.thorough
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"])
def test_f57_a_stop_while_a_users_file_trains_is_no_bad_input(number, status, tmp_path):
    (tmp_path / "mine.py").write_text(TRAINS)
    line = [sys.executable, "-m", "dgmzoo", "train", "mine.py"]
    process = subprocess.Popen(
        line, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "training\n"
    time.sleep(8)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status and "error" not in errors, errors
