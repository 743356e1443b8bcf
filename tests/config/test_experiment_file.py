"""A user's experiment file: versions side by side, modules beside it, and names that clash."""

import hashlib
import os
import sys

import pytest

import dgmzoo
from dgmzoo.config import experiment_file, overrides
from dgmzoo.config.experiment_file import digest, execute, modules_beside
from tests.support.tiny import TINY

MINE = """
import dataclasses, json
import dgmzoo
from net import WIDTH

base = dgmzoo.experiment("vae/digits")
experiment = dataclasses.replace(base, model=base.model.clone(latent_dim=WIDTH), name="")
"""


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders, each with an experiment file that imports a module, which imports another, both of the folder."""
    monkeypatch.setattr(experiment_file, "_IMPORTED", {})
    loaded = set(sys.modules)
    for name, width in (("a", 2), ("b", 3)):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "mine.py").write_text(MINE)
        (tmp_path / name / "net.py").write_text("from deep.er import WIDTH\n")
        (tmp_path / name / "deep/__init__.py").write_text("")
        (tmp_path / name / "deep/er.py").write_text(f"WIDTH = {width}\n")
        (tmp_path / name / "unused.py").write_text("")
    yield [tmp_path / "a/mine.py", tmp_path / "b/mine.py"]
    for name in set(sys.modules) - loaded:
        if name.partition(".")[0] in ("net", "deep", "lib", "unused") or name.startswith("dgmzoo_experiment_"):
            del sys.modules[name]


def width(path) -> int:
    return dgmzoo.experiment(str(path)).model.latent_dim


def test_a_module_of_the_same_name_from_another_folder_is_refused_with_both_paths(folders):
    assert width(folders[0]) == 2
    with pytest.raises(
        ValueError, match=r"one module named '(net|deep.er)' .*b/.* for .*b/mine.py while .*a/.* is loaded"
    ):
        width(folders[1])
    assert width(folders[0]) == 2
    assert not {str(path.parent) for path in folders} & set(sys.path)


def test_two_versions_of_a_file_stand_side_by_side(folders):
    first = dgmzoo.experiment(str(folders[0]))
    module = execute(folders[0])
    assert execute(folders[0]) is module, "a file of the same content runs once"
    folders[0].write_text(MINE.replace("latent_dim=WIDTH", "latent_dim=WIDTH + 7"))
    assert width(folders[0]) == 9 and first.model.latent_dim == 2 and execute(folders[0]) is not module


@pytest.mark.thorough
def test_a_changed_module_is_refused_in_this_process_and_changes_the_digest(folders, tmp_path):
    exp = dgmzoo.experiment(str(folders[0]), {**TINY, "training.epochs": 1, "model.latent_dim": 4})
    run = dgmzoo.train(exp, tmp_path / "run", progress=False)
    (folders[0].parent / "unused.py").write_text("# changed\n")
    assert dgmzoo.load(tmp_path / "run").evaluate()["value"] == run.record["value"]
    before = digest(folders[0])
    (folders[0].parent / "deep/er.py").write_text("WIDTH = 22\n")
    assert digest(folders[0]) != before
    with pytest.raises(ValueError, match=r"er\.py as it was .*; restart Python"):
        width(folders[0])
    for name in ("net", "deep", "deep.er"):  # as in a new process
        del sys.modules[name]
    experiment_file._IMPORTED.clear()
    assert dgmzoo.load(tmp_path / "run").evaluate()["value"] == run.record["value"]  # by the copy that the run keeps
    for name in ("net", "deep", "deep.er"):
        del sys.modules[name]
    experiment_file._IMPORTED.clear()
    with pytest.raises(ValueError, match=r"expected the experiment file that .* was trained with"):
        changed = dgmzoo.experiment(str(folders[0]), {**TINY, "training.epochs": 1, "model.latent_dim": 4})
        dgmzoo.train(changed, tmp_path / "run", progress=False)


def test_the_digest_is_that_of_the_file_as_it_was_loaded(folders, tmp_path):
    exp = dgmzoo.experiment(str(folders[0]), {**TINY, "training.epochs": 1})
    folders[0].write_text(MINE + "# edited while the experiment waits\n")
    run = dgmzoo.train(exp, tmp_path / "run", progress=False)
    assert (tmp_path / "run/source/experiment/mine.py").read_text() == MINE
    assert dgmzoo.load(tmp_path / "run").record == dgmzoo.load(tmp_path / "run", exp).record == run.record


def test_functions_of_a_file_have_a_name_that_outlives_its_versions(folders):
    text = MINE.replace("latent_dim=WIDTH", "latent=base.model.latent") + "def half(x):\n    return x / 2\n"
    folders[0].write_text(text)
    first = execute(folders[0]).half
    folders[0].write_text(text + "# a comment\n")
    assert overrides.plain(first) == overrides.plain(execute(folders[0]).half) == "mine.half"


def test_a_module_that_the_caller_has_imported_is_shared(folders, monkeypatch):
    monkeypatch.syspath_prepend(folders[0].parent)
    import net

    net.WIDTH = 7  # as in a notebook
    assert width(folders[0]) == 7
    assert sys.modules["net"] is net


def test_a_module_named_like_an_installed_package_is_refused(folders):
    import packaging

    (folders[1].parent / "packaging.py").write_text("WIDTH = 5\n")
    folders[1].write_text(MINE.replace("net", "packaging"))
    with pytest.raises(ValueError, match=r"one module named 'packaging' .*rename one of them"):
        width(folders[1])
    assert sys.modules["packaging"] is packaging


def test_folders_without_init_and_packages_with_relative_imports(folders):
    folder = folders[0].parent
    (folder / "packaging").mkdir()  # empty, but with an installed package's name
    (folder / "lib/sub").mkdir(parents=True)
    (folder / "lib/net.py").write_text("from .sub import wide\nfrom .sub.wide import *\n")
    (folder / "lib/sub/__init__.py").write_text("from . import wide\n")
    (folder / "lib/sub/wide.py").write_text("from .. import other\nWIDTH = other.WIDTH\n")
    (folder / "lib/other.py").write_text("WIDTH = 4\n")
    (folder / "lib/broken.py").write_text("import (\n")
    text = "try:\n    import lib.broken\nexcept SyntaxError:\n    import packaging.version\n"
    folders[0].write_text(text + MINE.replace("from net", "from lib.net"))
    assert width(folders[0]) == 4
    assert set(modules_beside(folders[0])) == {"lib.net", "lib.sub", "lib.sub.wide", "lib.other", "lib.broken"}


def test_a_file_that_fails_leaves_loaded_modules_alone(folders):
    width(folders[0])
    net = sys.modules["net"]
    broken = folders[0].with_name("broken.py")
    broken.write_text(MINE + "raise KeyError('this')\n")
    loaded = set(sys.modules)
    with pytest.raises(ValueError, match="KeyError: 'this'"):
        dgmzoo.experiment(str(broken))
    assert sys.modules["net"] is net
    assert not [name for name in set(sys.modules) - loaded if name.startswith("dgmzoo_experiment_broken")]


def test_no_file_is_written_or_deleted_beside_a_users_script(folders, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    stale = folders[0].parent / "__pycache__/net.cpython-00.pyc"
    stale.parent.mkdir()
    stale.write_bytes(b"of another Python")
    before = {path for path in folders[0].parent.rglob("*")}
    width(folders[0])
    assert {path for path in folders[0].parent.rglob("*")} == before
    assert not sys.dont_write_bytecode


def test_a_file_without_modules_of_its_own_has_its_sha256_as_digest(tmp_path):
    (tmp_path / "mine.py").write_text("import json\nimport dgmzoo\n")
    (tmp_path / "dgmzoo.py").write_text("")
    assert digest(tmp_path / "mine.py") == hashlib.sha256(b"import json\nimport dgmzoo\n").hexdigest()


def test_a_module_named_like_one_of_the_standard_library_is_refused(folders):
    (folders[0].parent / "trace.py").write_text("WIDTH = 6\n")
    assert width(folders[0]) == 2
    folders[0].write_text(MINE.replace("net", "trace"))
    with pytest.raises(ValueError, match=r"names of their own, got .*trace\.py, .*rename it"):
        width(folders[0])


def test_a_change_within_the_resolution_of_the_file_times_is_seen(folders):
    width(folders[0])
    changed = folders[0].parent / "deep/er.py"
    times = changed.stat()
    changed.write_text("WIDTH = 9\n")
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ValueError, match="restart Python"):
        width(folders[0])


def test_types_of_a_class_are_looked_up_in_the_file_that_defines_it(folders):
    """Annotations are text here; the names in them belong to the class's module."""
    text = "from __future__ import annotations\nfrom collections.abc import Sequence as S\nfrom dgmzoo import VAE\n"
    text += "WIDTH = 5\n\n\nclass Net(VAE):\n    extra: S[int] = ()\n\n    def own(self): ...\n"
    (folders[0].parent / "net.py").write_text(text)
    folders[0].write_text(
        MINE.replace("WIDTH\n", "WIDTH, Net\n").replace("base.model.clone(latent_dim=WIDTH)", "Net(WIDTH)")
    )
    exp = dgmzoo.experiment(str(folders[0]))
    assert overrides.override(exp, {"model.extra": (3,)}).model.extra == (3,)
    with pytest.raises(ValueError, match=r"model\.extra of type"):
        overrides.override(exp, {"model.extra": 1})
