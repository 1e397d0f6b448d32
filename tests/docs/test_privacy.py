"""docs/privacy.md: its commands exist with their options, and its places are places."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

import encore
from features.tombstones import KINDS

PAGE = (Path(encore.__file__).parent / "docs" / "privacy.md").read_text()
PRIVACY = typer.main.get_command(encore.app).commands["privacy"].commands
LINES = [line for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_a_command_with_options_it_knows(line):
    program, room, command, *arguments = shlex.split(line)
    assert (program, room) == ("encore", "privacy")
    PRIVACY[command].make_context(command, arguments)


def test_every_command_and_every_list_is_told_of():
    assert {shlex.split(line)[2] for line in LINES} == {*PRIVACY}
    assert {kind for kind in KINDS if f"`{kind}`" in PAGE} == {"no_marketing", "no_profiling", "deleted"}


def test_it_says_not_to_set_prices_by_score():
    assert "## Do not set prices by score" in PAGE
