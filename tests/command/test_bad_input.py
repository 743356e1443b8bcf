"""Bad input to the command: one short answer, nothing left behind."""

import numpy as np
import pytest

from tests.support.command import QUICK, run


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return path


def with_nan(path):
    x = np.random.default_rng(0).random((200, 8, 8, 1)).astype(np.float32)
    x[3, 2, 1] = np.nan
    np.save(path, x)
    return path


BAD = {
    "unknown experiment": (["train", "vae/digit"], "nearest are vae/digits"),
    "unknown verb": (["trian"], "did you mean train"),
    "no experiment": (["train"], "expected the name of an experiment"),
    "unknown override": (["train", "vae/digits", "--model.latent-dims", "3"], "--model.latent-dim"),
    "ill-typed override": (["train", "vae/digits", "--model.latent-dim", "three"], "--model.latent-dim"),
    "latent size 0": (["train", "vae/digits", "--model.latent-dim", "0"], "integer >= 1, got 0"),
    "no layers": (["train", "vae/digits", "--model.encoder.hidden", "0"], "hidden widths >= 1"),
    "large batch": (["train", "vae/digits", "--training.batch-size", "5000"], "at most the 1257 training rows, got 5000"),
    "two lengths": (["train", "vae/digits", "--training.steps", "5", "--training.epochs", "5"], "exactly one"),
    "wrong objective": (["train", "vae/digits", "--objective", "nvil"], "use a pathwise objective"),
    "wrong objective for bits": (["train", "dvae/digits_sigmoid_belief_network", "--objective", "elbo"], "use a score-function objective"),
    "unknown objective": (["train", "vae/digits", "--objective", "elbow"], "one of elbo, iwae, dreg, nvil"),
    "unknown family": (["train", "vae/digits", "--model.latent.posterior", "Norml"], "Normal"),
    "mixed kinds": (["train", "vae/digits", "--model.latent.prior", "BernoulliLogits"], "both discrete or both continuous"),
    "gray pixels": (["train", "vae/digits", "--data.encoding", "gray"], "expected x in {0, 1}"),
    "unknown data": (["train", "vae/digits", "--data.name", "mnst"], "mnist"),
    "no such file": (["train", "vae/digits", "--data.name", "nothing.npy"], "nothing.npy"),
    "negative rate": (["train", "vae/digits", "--training.learning-rate", "-1"], "learning_rate"),
    "nan rate": (["train", "vae/digits", "--training.learning-rate", "nan"], "learning_rate"),
    "not a run": (["evaluate", "/nowhere"], "expected a run directory"),
    "large batch, length in steps": (["train", "vae/digits", "--training.batch-size", "5000", "--training.steps", "3"], "at most the 1257"),
    "negative seed": (["train", "vae/digits", "--seed", "-1"], "expected a seed from 0"),
    "huge seed": (["train", "vae/digits", "--seed", "99999999999999999999"], "expected a seed from 0"),
    "seeds with patience": (["train", "vae/digits", "--seeds", "2", "--training.patience", "2"], "training.patience None with 2 seeds"),
    "free bits in parts": (["train", "vae/digits", "--objective.free-bits", "0.5", "--training.accumulate", "2"], "free_bits 0 with training.accumulate"),
    "corrected, then refused": (["train", "vae/digits", "--model.latent.prior", "horseshoe", "--objective", "nvil"], "use a pathwise objective"),
    "family without a head": (["train", "vae/digits", "--model.latent.posterior", "Uniform"], "one number per parameter"),
    "family of vectors": (["train", "vae/digits", "--model.latent.posterior", "MultivariateNormal"], "one number per parameter"),
    "prior too narrow": (["train", "vae/digits", "--model.latent.prior", "HalfNormal"], "their KL is infinite"),
    "compare without a name": (["compare"], "expected the name of an experiment after compare"),
    "compare nothing": (["compare", "vae/digits"], "expected layers or overrides to compare"),
    "compare an unknown layer": (["compare", "vae/digits", "--layers", "normal,nrmal"], "nrmal: expected model.latent one of"),
    "compare a refused pair": (["compare", "vae/digits", "--layers", "normal,point", "--objective", "iwae"], "point: expected an objective"),
    "compare a misspelt variant": (["compare", "vae/digits", "--variants", "iwae"], "expected a variant such as"),
    "compare an unknown field": (["compare", "vae/digits", "--variants", "model.latnt-dim=3"], "model.latnt-dim"),
    "compare a misspelt value": (["compare", "vae/digits", "--variants", "model.latent.learned-prior=Flase"], "model.latent.learned-prior=Flase"),
    "compare a refused variant": (["compare", "vae/digits", "--variants", "base", "objective=nvil"], "variant 'objective=nvil': expected an objective"),
    "compare no seeds": (["compare", "vae/digits", "--layers", "normal", "--seeds", "0"], "at least one"),
    "compare other data": (["compare", "vae/digits", "--variants", "data.seed=1"], "do not compare"),
    "no such experiment file": (["train", "mine.py"], "mine.py"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_short_answer(case, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, answer = BAD[case]
    assert run(*words) == 2
    told = capfd.readouterr()
    said = " ".join((told.err + told.out).replace("│", " ").split())
    assert answer in said, said
    assert "Traceback" not in said and "takes its place" not in said and len(said) < 1500
    assert list(tmp_path.iterdir()) == []  # nothing was left behind


@pytest.mark.parametrize("make, answer", [(pickled, "pickle"), (with_nan, "NaN")])
def test_bad_arrays_are_refused(make, answer, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path / "mine.npy")
    assert run("train", "vae/digits", "--data.name", str(path)) == 2
    assert answer.lower() in capfd.readouterr().err.lower()
    assert [found.name for found in tmp_path.iterdir()] == ["mine.npy"]


def test_nan_in_the_loss_stops_with_step_and_term(capfd, tmp_path):
    words = ("train", "vae/digits", *QUICK, "--training.optimizer", "sgd", "--training.learning-rate", "1e38")
    assert run(*words, "--run-dir", str(tmp_path / "run")) == 2
    told = capfd.readouterr().err
    assert "NaN or infinity at step" in told and "loss" in told and "vae/digits" in told and "Traceback" not in told


def test_folder_with_other_things_is_refused(capfd, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    assert run("train", "vae/digits", "--run-dir", str(tmp_path)) == 2
    assert "thesis.tex" in capfd.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("text, answer", [("experiment = (", "SyntaxError"), ("import nothing_there", "ModuleNotFoundError"), ("x = 1", "to define")])  # fmt: skip
def test_a_users_broken_file(text, answer, tmp_path, capfd):
    (tmp_path / "broken.py").write_text(text)
    assert run("train", str(tmp_path / "broken.py")) == 2
    told = capfd.readouterr().err
    assert answer in told and "Traceback" not in told
