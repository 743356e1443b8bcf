"""A user's experiment file and its neighbours: each file's own, seen when they change, shared with who imported them."""

import hashlib
import os
import sys
import types

import pytest

import dgmzoo
from dgmzoo.config import experiment_file, overrides
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
    """Two folders, each with a file of the same name that imports a neighbour, which imports another, of its own."""
    monkeypatch.setattr(experiment_file, "_BROUGHT", {})
    for name, width in (("a", 2), ("b", 3)):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "mine.py").write_text(MINE)
        (tmp_path / name / "net.py").write_text("from deep.er import WIDTH\n")
        (tmp_path / name / "deep/__init__.py").write_text("")
        (tmp_path / name / "deep/er.py").write_text(f"WIDTH = {width}\n")
        (tmp_path / name / "unused.py").write_text("")
    yield [tmp_path / "a/mine.py", tmp_path / "b/mine.py"]
    for name in ("net", "deep", "deep.er", "dgmzoo_user_mine"):
        sys.modules.pop(name, None)


def test_each_file_has_its_own_neighbours(folders):
    found = [dgmzoo.experiment(str(path)).model.latent_dim for path in (*folders, *folders)]
    assert found == [2, 3, 2, 3]
    assert not {str(path.parent) for path in folders} & set(sys.path)


def test_an_unchanged_neighbour_is_imported_once(folders):
    dgmzoo.experiment(str(folders[0]))
    there = sys.modules["net"], sys.modules["deep.er"]
    dgmzoo.experiment(str(folders[0]))
    assert (sys.modules["net"], sys.modules["deep.er"]) == there


def test_a_changed_neighbour_is_seen(folders, tmp_path):
    exp = dgmzoo.experiment(str(folders[0]), {**TINY, "training.epochs": 1, "model.latent_dim": 4})
    run = dgmzoo.train(exp, tmp_path / "run", progress=False)
    (folders[0].parent / "unused.py").write_text("# changed\n")
    assert dgmzoo.load(tmp_path / "run").evaluate()["value"] == run.record["value"]
    before = experiment_file.digest(folders[0])
    (folders[0].parent / "deep/er.py").write_text("WIDTH = 22\n")
    assert experiment_file.digest(folders[0]) != before
    assert dgmzoo.experiment(str(folders[0])).model.latent_dim == 22
    with pytest.raises(ValueError, match="modules beside it"):
        dgmzoo.load(tmp_path / "run")
    with pytest.raises(ValueError, match="file_sha256"):
        dgmzoo.train(exp, tmp_path / "run", progress=False)


def test_what_the_caller_has_imported_is_shared(folders, monkeypatch):
    monkeypatch.syspath_prepend(folders[0].parent)
    import net

    net.WIDTH = 7  # as a notebook might
    assert dgmzoo.experiment(str(folders[0])).model.latent_dim == 7
    assert sys.modules["net"] is net
    assert dgmzoo.experiment(str(folders[1])).model.latent_dim == 3
    assert sys.modules["net"] is net, "the caller's is back"
    assert dgmzoo.experiment(str(folders[0])).model.latent_dim == 7
    (folders[1].parent / "packaging.py").write_text("WIDTH = 5\n")  # as an installed package is called
    folders[1].write_text(MINE.replace("net", "packaging"))
    import packaging

    assert dgmzoo.experiment(str(folders[1])).model.latent_dim == 5 and sys.modules["packaging"] is packaging


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
    try:
        assert dgmzoo.experiment(str(folders[0])).model.latent_dim == 4
        found = set(experiment_file._beside(folders[0]))
        assert found == {"lib.net", "lib.sub", "lib.sub.wide", "lib.other", "lib.broken"}
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "lib"]:
            del sys.modules[name]


def test_a_file_that_fails_leaves_what_was_there(folders):
    dgmzoo.experiment(str(folders[0]))
    there = sys.modules["net"]
    folders[1].write_text(MINE + "raise KeyError('this')\n")
    with pytest.raises(ValueError, match="KeyError: 'this'"):
        dgmzoo.experiment(str(folders[1]))
    assert sys.modules["net"] is there


def test_a_file_alone_has_its_own_digest(tmp_path):
    (tmp_path / "mine.py").write_text("import json\nimport dgmzoo\n")
    (tmp_path / "dgmzoo.py").write_text("")
    assert experiment_file.digest(tmp_path / "mine.py") == hashlib.sha256(b"import json\nimport dgmzoo\n").hexdigest()


def test_a_neighbour_called_like_one_of_the_standard_library_is_refused(folders):
    (folders[0].parent / "trace.py").write_text("WIDTH = 6\n")
    assert dgmzoo.experiment(str(folders[0])).model.latent_dim == 2
    folders[0].write_text(MINE.replace("net", "trace"))
    with pytest.raises(ValueError, match=r"names of their own, got .*trace\.py, .*rename it"):
        dgmzoo.experiment(str(folders[0]))


def test_a_change_within_a_second_is_seen(folders, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    dgmzoo.experiment(str(folders[0]))
    changed = folders[0].parent / "deep/er.py"
    when = changed.stat()
    changed.write_text("WIDTH = 9\n")
    os.utime(changed, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert dgmzoo.experiment(str(folders[0])).model.latent_dim == 9


def test_a_class_of_a_file_keeps_its_own_names(folders):
    """Types are written as text, and another file's module has the name of theirs since."""
    text = "from __future__ import annotations\nfrom collections.abc import Sequence as S\nfrom dgmzoo.zoo.vae.vae import VAE\n"
    text += "WIDTH = 5\n\n\nclass Net(VAE):\n    extra: S[int] = ()\n\n    def own(self): ...\n"
    (folders[0].parent / "net.py").write_text(text)
    folders[0].write_text(
        MINE.replace("WIDTH\n", "WIDTH, Net\n").replace("base.model.clone(latent_dim=WIDTH)", "Net(WIDTH)")
    )
    exp = dgmzoo.experiment(str(folders[0]))
    dgmzoo.experiment(str(folders[1]))
    assert overrides.override(exp, {"model.extra": (3,)}).model.extra == (3,)
    with pytest.raises(ValueError, match=r"model\.extra of type"):
        overrides.override(exp, {"model.extra": 1})


def test_a_neighbour_that_is_not_reached_makes_nothing_anew(folders):
    folders[0].write_text(MINE + "if False:\n    import unused\n")
    dgmzoo.experiment(str(folders[0]))
    there = sys.modules["net"]
    unused = sys.modules["unused"] = types.ModuleType("unused")  # the caller's
    dgmzoo.experiment(str(folders[0]))
    assert sys.modules["net"] is there and sys.modules.pop("unused") is unused
