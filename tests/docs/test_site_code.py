"""What the site shows to be typed: requests are sent, commands are run where they take seconds, the others have options that exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer

import encore
from features.errors import EncoreError
from features.exit_codes import exit_code
from features.shopfile import read_shop
from features.workspace import Workspace

DOCS = Path(encore.__file__).parent / "docs"
PAGES = {path.stem: path.read_text() for path in sorted(DOCS.glob("*.md"))}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)


LINES = [(page, line) for page in PAGES for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines() if line.startswith("encore ")]


def leaf_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words call, and what is left of them for it."""
    command: Any = typer.main.get_command(encore.app)
    rest = words[1:]
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"'{rest[0]}' is no command; there are {', '.join(command.commands)}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_line_is_a_command_with_options_it_knows(page: str, line: str) -> None:
    command, rest = leaf_of(words_of(line))
    assert command.make_context("encore", rest).command is command  # raises on what it does not know


# --- shop files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "text"), [(page, text) for page in PAGES for text in blocks(page, "toml") if not text.startswith("--8<--")])
def test_every_shop_file_is_one(page: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "encore.toml").write_text(text)
    assert read_shop(tmp_path / "encore.toml").name  # raises with every problem


@pytest.mark.parametrize("name", re.findall(r'--8<-- "([^"]+)"', "".join(PAGES.values())))
def test_every_file_that_is_shown_is_a_shop_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("date,currency,rate\n")  # which some of them name
    (tmp_path / "encore.toml").write_text((DOCS.parent / name).read_text())
    assert read_shop(tmp_path / "encore.toml").sources


# --- commands -------------------------------------------------------------------------------------------------------

RUN = ("start", "data", "audiences", "operating")
NOT_RUN = {  # the beginning of a line -> why it is only checked
    "encore export --workspace": "sends to what the shop file names, and this one names nothing",
    "encore replay": "needs a score run of that day",
}
USER = "user-000001"
CODES = {  # the beginning of a line -> the code that it ends with here
    "encore campaign report": 6,  # the page says so: the windows are not over
    "encore campaign monitor": 6,  # it begins today, and the events of this shop end long before
    "encore export braze": 2,  # nobody has told the address
    "encore rollback": 5,  # there was one release
}


@pytest.fixture(scope="module")
def shop(small_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the small shop of the tests, whose shop file is that of the first page; its registry is the original's."""
    folder = Path(shutil.copytree(small_workspace.root, tmp_path_factory.mktemp("site") / "my-shop", ignore=shutil.ignore_patterns("mlflow")))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ENCORE_MLFLOW_URI", small_workspace.mlflow_uri)
        for name in ("ENCORE_LEDGER_URL", "ENCORE_WORKSPACE"):
            environment.delenv(name, raising=False)
        environment.chdir(folder.parent)  # where the pages' `my-shop` is
        yield folder


def test_the_first_page_shows_the_shop_that_the_tests_are_made_of(small_workspace: Workspace) -> None:
    assert [tomllib.loads(text) for text in blocks("start", "toml")] == [tomllib.loads(small_workspace.shop_file.read_text())]


def test_the_lines_of_the_first_page_do_what_they_say(shop: Path) -> None:
    assert run_all(("start",)) == []


@pytest.mark.long
def test_the_lines_of_the_other_pages_do_what_they_say(shop: Path) -> None:
    assert run_all(("data", "audiences", "operating")) == []


def run_all(pages: tuple[str, ...]) -> list[str]:
    """Run what the pages show, in their order; returns the lines that ended with another code than they should."""
    failed = []
    for page, line in LINES:
        if page not in pages or any(line.startswith(start) for start in NOT_RUN):
            continue
        code, said = run(line.replace("1228", USER))
        if code != next((CODES[start] for start in CODES if line.startswith(start)), 0):
            failed.append(f"{line}: exit code {code}. {said}")
    return failed


def run(line: str) -> tuple[int, str]:
    """The exit code of a line, as `main` gives it, and what its error says."""
    try:
        ended = encore.app(words_of(line)[1:], standalone_mode=False)  # the code of an Exit is what it returns
    except EncoreError as error:
        return exit_code(error), str(error)
    return int(ended or 0), ""


# --- requests -------------------------------------------------------------------------------------------------------


SALESFORCE = {"get_config", "execute", "save", "validate", "publish", "stop"}  # are not there without a key of Salesforce's: tests of the recipes
BY_ID = {"get_job", "get_privacy_request", "get_version_metadata", "get_version_ready", "post_version_infer"}  # only the service can give
NOT_MADE = {"get_report", "get_changes", "post_refresh"}  # of a campaign and a look-alike whose jobs nobody has run


@pytest.fixture(scope="module")
def operations() -> Any:
    spec = importlib.util.spec_from_file_location("operations", DOCS / "operations.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_request_of_the_api_page_is_understood(operations: Any, client: Any) -> None:
    """In the order of the page, so that what one makes the next may ask for."""
    answers = {}
    for method, path, operation in operations.each():
        words = shlex.split(operations.curl(method, path, operation))
        target = next(urlsplit(word) for word in words if word.startswith("http://"))
        headers = {name.lower(): value for name, value in (words[place + 1].split(": ", 1) for place, word in enumerate(words) if word == "-H")}
        body = words[words.index("-d") + 1].encode() if "-d" in words else b""
        headers.pop("x-api-key", None)  # this service has none
        answer = client.request(method, target.path + (f"?{target.query}" if target.query else ""), body, headers)
        answers[operation["operationId"]] = answer.status
        assert str(answer.status) in operation["responses"]
    unseen = {name for name, status in answers.items() if status == 404}
    assert {name: status for name, status in answers.items() if status >= 400 and status != 404} == {}
    assert unseen == SALESFORCE | BY_ID | NOT_MADE
