"""The notebooks run from top to bottom on small settings, and are committed with outputs (F45)."""

import json

import pytest

from tests.support.command import ROOT, environment

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_the_notebooks_exist():
    assert {path.stem for path in NOTEBOOKS} >= {"compare_priors", "variational_layers"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_f45_outputs_are_committed(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "run from top to bottom"
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert path.stat().st_size < 1_000_000
    assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in outputs)
    texts = "".join(json.dumps(output) for output in outputs)
    assert not any(folder in texts for folder in ("/root/", "/home/", "/tmp/", "/Users/")), "no paths of a machine"


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_small_settings(path, tmp_path):
    reason = 'needs the notebook tools: pip install -e ".[test]"'
    nbclient = pytest.importorskip("nbclient", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    optimized = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}  # its trainings are long
    client.execute(env=environment(DGMZOO_QUICK="1", PYTHONPATH=str(ROOT), **optimized))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.get("name") == "stderr" and "Warning" in output["text"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    if path.stem == "compare_priors":
        assert any("<table>" in output.get("data", {}).get("text/html", "") for output in outputs)
