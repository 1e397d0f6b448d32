"""The console's words in its languages: one file each, the same keys in all. Whatever is shown comes from here or from the data."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

LANGUAGES = {"en": "English", "zh": "简体中文"}
TAGS = {"en": "en", "zh": "zh-Hans"}  # as pages say what they are written in
DEFAULT = "en"
PLACE = re.compile(r"\{(\w+)\}")
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


@cache
def _sentences(language: str, table: str) -> list[tuple[re.Pattern[str], str]]:
    """Sentences of a table whose keys have places: what finds each, and its key. Those with more words of their own come first."""
    keys = [key for key in catalogue(language) if key.startswith(f"{table}.") and "{" in key]
    keys.sort(key=lambda key: (-len(PLACE.sub("", key)), key))
    return [(re.compile(PLACE.sub(r"(?P<\1>.+?)", re.escape(key.partition(".")[2]).replace(r"\{", "{").replace(r"\}", "}"))), key) for key in keys]


@lru_cache(4096)
def _told(language: str, table: str, text: str) -> str | None:
    """A text of the data by the table's sentences; what stands in a place is told likewise, or stays as it is."""
    texts = catalogue(language)
    if (whole := texts.get(f"{table}.{text}")) is not None:
        return whole
    for pattern, key in _sentences(language, table):
        if found := pattern.fullmatch(text):
            return texts[key].format(**{name: _told(language, table, part) or part for name, part in found.groupdict().items()})
    return None


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

    def said(self, text: str) -> str | None:
        """A sentence of the data (a gate's reason, an alarm, a check) in this language, line by line; None where the catalogue knows none of it."""
        lines = [(line, _told(self.language, "said", line)) for line in text.splitlines()]
        return "\n".join(known or line for line, known in lines) if any(known for _, known in lines) else None

    def meaning(self, text: str) -> str | None:
        """What a feature's meaning is in this language: of its words without the window, and the window; None where the catalogue does not know it."""
        plain = text.removeprefix("1 if ")
        if self.language == DEFAULT:
            return plain[:1].upper() + plain[1:]
        for word in (text, f"1 if {plain}"):
            if (window := WINDOW.fullmatch(word)) and (found := _told(self.language, "meaning", window["of"])):
                return self.text("meaning.within", days=window["days"], of=found)
            if found := _told(self.language, "meaning", word):
                return found
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
