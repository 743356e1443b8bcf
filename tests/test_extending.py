"""The page EXTENDING.md: its code runs, its entry passes the battery, and its prior is chosen by name."""

import re
from pathlib import Path

import jax.numpy as jnp

import dgmzoo
from dgmzoo import testing
from dgmzoo.config import names
from dgmzoo.config.experiment import load_experiment
from tests.support.toy_rows import BITS, SHAPE

PAGE = Path(__file__).parent.parent / "EXTENDING.md"
LAWS = ("shapes", "given samples", "total mass", "samples")


def test_the_code_of_the_page_is_an_experiment_that_passes_the_battery(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "PRIORS", dict(names.PRIORS))
    monkeypatch.setitem(names.AXES, "prior", names.PRIORS)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    file = tmp_path / "mine.py"
    file.write_text("\n".join(blocks))
    experiment = load_experiment(str(file))
    module = experiment.model.clone(shape=SHAPE, encoder=dgmzoo.MLP((16,)), decoder=dgmzoo.MLP((16,)))
    report = testing.check(module, {"x": jnp.asarray(BITS["x"])}, only=LAWS)
    assert {outcome.law: outcome.status for outcome in report.outcomes} == dict.fromkeys(LAWS, "passed")
    chosen = dgmzoo.experiment("vae/digits", {"model.latent.prior": "my_mixture", "model.latent.prior.components": 3})
    assert type(chosen.model.latent.prior).__name__ == "Mixture" and chosen.model.latent.prior.components == 3
    assert "my_mixture" in names.names_of("prior")


def test_the_page_names_the_axes_of_the_registry():
    text = PAGE.read_text()
    assert all(f"`{axis}`" in text for axis in names.AXES)
