"""The zoo's experiments: one file each, named by its path (`vae/digits`), described by its docstring.

A name is `<family>/<data>_<model>[_<variant>]`, where the model is left out if the family is named after it
(`vae/digits` is the VAE). This module reads the files without importing them, so that a listing needs neither JAX nor
Flax.
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
    """What a listing shows of an experiment."""

    name: str
    description: str  # first line of the docstring
    data: str  # name of the data set
    papers: tuple[tuple[float, str], ...]  # published value and source


def names() -> list[str]:
    """All experiments, sorted."""
    files = _ROOT.glob("*/*.py")
    return sorted(f"{path.parent.name}/{path.stem}" for path in files if path.stem != "__init__")


def records() -> list[Path]:
    """Files of the committed records, sorted."""
    return sorted((_ROOT / "results").glob("*.json"))


def summary(name: str) -> Summary:
    """An experiment's summary, read statically: its docstring and the literal `data=Data("...")` and `papers=(...)`."""
    tree = ast.parse((_ROOT / f"{name}.py").read_text())
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
