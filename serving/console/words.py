"""The console's words in its languages: one file each, the same keys in all. Whatever is shown comes from here or from the data."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = {"en": "English", "zh": "简体中文"}
TAGS = {"en": "en", "zh": "zh-Hans"}  # as pages say what they are written in
DEFAULT = "en"
WINDOW = re.compile(r"(?P<of>.*) in the last (?P<days>\d+) days?")  # as features say it


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Key -> text, the tables of the file joined by dots."""
    found: dict[str, str] = {}

    def flatten(table: Mapping[str, Any], above: str) -> None:
        for name, value in table.items():
            if isinstance(value, str):
                found[above + name] = value
            else:
                flatten(value, f"{above}{name}.")

    flatten(tomllib.loads((files(__package__) / "words" / f"{language}.toml").read_text(encoding="utf-8")), "")
    return found


class Words:
    """One language's texts.

    Args:
        language: one of LANGUAGES.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue(language)

    def text(self, key: str, **values: Any) -> str:
        """The text of a key with its values put in.

        Raises:
            KeyError: the catalogue has no such key.
        """
        return self._texts[key].format(**values)

    def known(self, table: str, name: str) -> str | None:
        """What a word of the data (a layer, a metric, a grade) is called in this language; None where the catalogue does not know it."""
        return self._texts.get(f"{table}.{name}")

    def meaning(self, text: str) -> str | None:
        """What a feature's meaning is in this language: of its words without the window, and the window; None where the catalogue does not know it."""
        plain = text.removeprefix("1 if ")
        if self.language == DEFAULT:
            return plain[:1].upper() + plain[1:]
        for word in (text, f"1 if {plain}"):
            if found := self.known("meaning", word):
                return found
            if (window := WINDOW.fullmatch(word)) and (found := self.known("meaning", window["of"])):
                return self.text("meaning.within", days=window["days"], of=found)
        return None


def chosen(wanted: str | None, accepted: str) -> str:
    """The language to answer in: the one that was chosen before, else the first that the browser accepts (RFC 9110, 12.5.4), else English."""
    if wanted in LANGUAGES:
        return str(wanted)
    ranked = []
    for place, part in enumerate(accepted[:500].split(",")):
        tag, _, weight = part.strip().partition(";")
        try:
            ranked.append((-float(weight.partition("=")[2] or 1), place, tag.lower().partition("-")[0]))
        except ValueError:
            continue
    return next((language for weight, _, language in sorted(ranked) if weight < 0 and language in LANGUAGES), DEFAULT)
