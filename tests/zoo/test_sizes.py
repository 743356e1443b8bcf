"""Every entry is short enough to be read beside its paper."""

import ast
from pathlib import Path

import pytest

from tests.support.command import ROOT

LIMIT = 80  # lines of code of an entry
ENTRIES = sorted(path for path in (ROOT / "dgmzoo" / "zoo").rglob("*.py") if path.name != "__init__.py")


def lines_of_code(path: Path) -> int:
    """Number of lines without docstrings, imports, comments and blanks."""
    text = path.read_text()
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_docstring = isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, node.end_lineno + 1))
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return sum(bool(line) and not line.startswith("#") and number not in left_out for number, line in lines)


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.stem)
def test_an_entry_has_fewer_than_80_lines_of_code(path):
    assert 0 < lines_of_code(path) < LIMIT
