"""docs/faults.md: every fault has a test, and every test that the page names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "faults.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_every_fault_is_on_the_page_once():
    expected = [*range(1, 21), 40, 44, 45, 46, *range(30, 40), 41, 42, 43]
    assert re.findall(r"^\| (F\d+) ", PAGE, re.MULTILINE) == [f"F{number}" for number in expected]


def test_every_line_names_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and line != "| fault | what happens | test |"]
    assert [line for line in rows if not re.search(r"\| `tests/[\w/]+\.py::test_\w+` \|$", line)] == []
    assert len(NAMED) == len(rows)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_named_test_exists(file: str, name: str):
    tree = ast.parse((PROJECT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
