"""Documents that cannot lie: commands and options exist, links lead somewhere, the shop file is a shop file."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer

import encore
from features.shopfile import read_shop

PROJECT = Path(encore.__file__).parent
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("bench/*.md"), *PROJECT.glob("examples/**/*.md")])
COMMANDS: dict[str, Any] = typer.main.get_command(encore.app).commands  # type: ignore[attr-defined]
NOUNS = (
    "EventLog", "Tile", "FeatureView", "Column", "Snapshot", "Task", "Examples", "Bundle", "Release", "Score", "Audience", "Campaign"
)  # fmt: skip


def fenced(page: Path, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def shell_lines(program: str) -> list[str]:
    """Every line of bash, in any page, that calls a program; a line that ends in a backslash goes on."""
    blocks = [block.replace("\\\n", " ") for page in PAGES for block in fenced(page, "bash")]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.split()[:1] == [program]))


def words_of(line: str) -> list[str]:
    """The words of the first command of a line, without comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    end = next((place for place, word in enumerate(words) if set(word) <= set("|&;<>()")), len(words))
    return words[:end]


def targets(page: Path) -> list[str]:
    """Where the links and pictures of a page point to inside the project."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", re.sub(r"`[^`\n]*`", "", text))
    return [target for target in found if not re.match(r"[a-z]+:|//|#", target)]


def test_the_readme_shows_commands() -> None:
    assert shell_lines("encore")


@pytest.mark.parametrize("line", shell_lines("encore"))
def test_every_encore_line_is_a_command_with_options_it_knows(line: str) -> None:
    _, command, *arguments = words_of(line)
    assert command in COMMANDS, f"'{command}' is no command; there are {', '.join(COMMANDS)}"
    if "--help" not in arguments:
        COMMANDS[command].make_context(command, arguments)  # raises on an unknown option or a value of the wrong kind


@pytest.mark.parametrize("line", shell_lines("make"))
def test_every_make_line_has_a_target(line: str) -> None:
    known = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in words_of(line)[1:] if "=" not in word} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert [target for target in targets(page) if not (page.parent / unquote(target.split("#")[0])).exists()] == []


def test_every_shop_file_in_the_readme_is_one(tmp_path: Path) -> None:
    shops = fenced(PROJECT / "README.md", "toml")
    assert shops
    for number, text in enumerate(shops):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        read_shop(path)  # raises with every problem


@pytest.mark.parametrize("path", sorted(path for path in (PROJECT / "examples").glob("*.toml") if "mapping" not in path.stem), ids=lambda path: path.stem)
def test_every_example_is_a_shop_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("date,currency,rate\n")  # which some of them name
    (tmp_path / "encore.toml").write_text(path.read_text())
    assert read_shop(tmp_path / "encore.toml").sources


def test_the_glossary_says_every_noun_of_the_code() -> None:
    files = [path for package in ("features", "training", "serving") for path in (PROJECT / package).rglob("*.py")]
    classes = {node.name for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)}
    in_code = {noun for noun in NOUNS if noun in classes or f"{noun}s" in classes}
    headwords = {
        word for words in re.findall(r"^\*\*.*?(?= — )", (PROJECT / "GLOSSARY.md").read_text(), re.MULTILINE) for word in re.findall(r"\*\*(.+?)\*\*", words)
    }
    assert len(in_code) >= 10
    assert in_code - headwords == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_page_names_a_folder_of_somebodys_machine(page: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:home|root|Users|work|tmp)/\S*", page.read_text()) == []
