"""The source of each test that a page names, so that a claim leads to what holds it."""

from __future__ import annotations

import ast
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PROJECT = Path(__file__).parents[1]
NAMED = re.compile(r"(?<!\[)`(tests/[\w/]+)\.py::(\w+)`")


def pages(texts: Iterable[str]) -> dict[str, str]:
    """A page for each test file that is named: the docstring, and the named tests as they stand."""
    named: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        for file, name in NAMED.findall(text):
            named[file].add(name)
    return {f"{file}.md": _page(file, names) for file, names in named.items()}


def linked(text: str, here: str) -> str:
    """A page's text, in which every test's name leads to the test."""
    folder = posixpath.dirname(here) or "."
    return NAMED.sub(lambda found: f"[`{found[2]}`]({posixpath.relpath(f'{found[1]}.md', folder)}#{found[2]})", text)


def _page(file: str, names: set[str]) -> str:
    source = (PROJECT / f"{file}.py").read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    sections = ["---\nsearch:\n  exclude: true\n---", f"# {file}.py", ast.get_docstring(tree) or ""]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            body = "\n".join(lines[first - 1 : node.end_lineno])
            sections += [f"## {node.name} {{#{node.name}}}", f"````python\n{body}\n````"]
    return "\n\n".join(sections) + "\n"
