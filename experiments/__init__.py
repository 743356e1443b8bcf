"""`names`: the names of all experiments in this folder; `summary`: describe an experiment without importing it.

Each experiment is a file whose path is its name (`vae/digits`). A name is `<family>/<data>_<model>[_<variant>]`. The
model is left out if it has the name of the family (`vae/digits` is the VAE). The docstring of the file describes the
experiment. This module parses the files without importing them, so that a listing needs neither JAX nor Flax.
"""

import ast
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parent

FORMER_NAMES = {
    "vae/caltech101": "vae/caltech101_silhouettes",
    "vae/mnist_iwae_2l": "vae/mnist_hierarchical_vae",
    "dvae/digits_nvil": "dvae/digits_sigmoid_belief_network",
    "ddnn/sparse_regression": "ddnn/toy_sparse_linear_regression",
}
"""Name in version 0.1 -> name since version 0.2."""


class Summary(NamedTuple):
    """Summary of an experiment for a listing.

    >>> summary("vae/digits").data
    'digits'
    """

    name: str
    description: str  # first line of the docstring
    data: str  # name of the data set
    papers: tuple[tuple[float, str], ...]  # published values and their sources


def names() -> list[str]:
    """Names of all experiments, sorted.

    >>> "vae/digits" in names()
    True
    """
    files = _ROOT.glob("*/*.py")
    return sorted(f"{path.parent.name}/{path.stem}" for path in files if path.stem != "__init__")


def path(name: str) -> Path:
    """The file of an experiment.

    >>> path("vae/digits").name
    'digits.py'
    """
    return _ROOT / f"{name}.py"


def records() -> list[Path]:
    """Paths of the committed records, sorted."""
    return sorted((_ROOT / "results").glob("*.json"))


def summary(name: str) -> Summary:
    """Summary of an experiment, from its docstring and its literal arguments `data=Data("...")` and `papers=(...)`.

    >>> len(summary("vae/mnist_iwae_1l").papers)
    4
    """
    tree = ast.parse(path(name).read_text())
    keywords = {
        keyword.arg: keyword.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for keyword in node.value.keywords
    }
    papers = keywords.get("papers")
    calls = papers.elts if isinstance(papers, ast.Tuple) else []
    return Summary(
        name=name,
        description=(ast.get_docstring(tree) or "").split("\n")[0],
        data=_argument(keywords["data"], "name", 0),
        papers=tuple((_argument(call, "value", 0), _argument(call, "source", 1)) for call in calls),
    )


def _argument(call: ast.Call, name: str, position: int):
    for keyword in call.keywords:
        if keyword.arg == name:
            return ast.literal_eval(keyword.value)
    return ast.literal_eval(call.args[position])
