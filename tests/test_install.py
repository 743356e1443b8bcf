"""The installed package: wheel, source distribution, and a script that lies beside the clone."""

import os
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests.support.command import ROOT

PROBE = """
import dgmzoo
from dgmzoo import experiments
print(dgmzoo.__file__, len(experiments.names()), len(experiments.records()))
assert dgmzoo.experiment("vae/digits").model.latent_dim == 20
"""


def run(*line: str, **options) -> str:
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_script_beside_the_clone_imports_the_package(tmp_path):
    """`W/mine.py` and `W/dgmzoo/`: the clone's folder has the package's name and is not the package."""
    (tmp_path / "dgmzoo").symlink_to(ROOT)
    (tmp_path / "mine.py").write_text(PROBE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # as the .pth file of the editable install adds it
    file, num, _ = run(sys.executable, "mine.py", cwd=tmp_path, env=environment).split()
    assert file == str(ROOT / "dgmzoo/__init__.py") and int(num) > 10


def test_a_link_that_is_no_folder_is_a_plain_error(tmp_path):
    (tmp_path / "dgmzoo").mkdir()
    (tmp_path / "dgmzoo/__init__.py").write_text((ROOT / "dgmzoo/__init__.py").read_text())
    (tmp_path / "dgmzoo/experiments").write_text("../experiments")  # a checkout without symbolic links
    line = [sys.executable, "-c", "import dgmzoo"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "expected dgmzoo/experiments to be a link to the folder" in done.stderr


@pytest.mark.thorough
def test_wheel_and_sdist_hold_the_experiments(tmp_path):
    pytest.importorskip("build")
    run(sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT))
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    experiment = "experiments/vae/digits.py"
    assert f"dgmzoo/{experiment}" in zipfile.ZipFile(wheel).namelist()
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert any(name.endswith(f"dgmzoo/{experiment}") for name in names)
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    file, num, records = run(sys.executable, "-c", PROBE, cwd=tmp_path, env=environment).split()
    assert file.startswith(str(tmp_path)) and int(num) > 10 and int(records) > 0
