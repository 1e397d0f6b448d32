"""Pictures of the console in the docs: every page has one that says what it shows, none is missing, none is left over, all are small."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import encore
from serving.console.render import PAGES

PROJECT = Path(encore.__file__).parent
PICTURES = PROJECT / "docs" / "pictures"
SHOWN = re.compile(r"!\[([^\]]*)\]\(pictures/([\w-]+)\.png\)")
ALL = {page: SHOWN.findall(page.read_text()) for page in sorted((PROJECT / "docs").glob("*.md"))}


def test_every_page_of_the_console_has_its_picture_in_the_section_that_explains_it() -> None:
    text = (PROJECT / "docs" / "console.md").read_text()
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    named = {"".join(title.split()).lower().replace("-", ""): [name for _, name in SHOWN.findall(said)] for title, said in sections.items()}
    assert named == {page: [page] for page in PAGES} | {"oneuser": ["users"]}


def test_the_run_that_takes_pictures_takes_those_that_are_shown() -> None:
    spec = importlib.util.spec_from_file_location("console_kinds", PROJECT / "tests" / "e2e" / "test_console_kinds.py")
    assert spec
    assert spec.loader
    kinds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kinds)
    assert kinds.PICTURED.keys() == {name for shown in ALL.values() for _, name in shown} == {file.stem for file in PICTURES.iterdir()}


@pytest.mark.parametrize(("said", "name"), sorted({one for shown in ALL.values() for one in shown}))
def test_a_picture_is_one_and_says_what_it_shows(said: str, name: str) -> None:
    content = (PICTURES / f"{name}.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert 10_000 < len(content) < 100_000
    assert len(said.split()) >= 5
