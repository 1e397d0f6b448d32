"""Templates and what they may call: words, formats, charts."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from serving.console import charts
from serving.console.formats import Formats
from serving.console.words import LANGUAGES, TAGS, Words

PAGES = ("audiences", "trust", "why", "shop", "lookalikes", "effect", "health")  # as the navigation has them


@cache
def environment() -> Environment:
    """Everything is escaped, and a name that a template misspells is an error."""
    made = Environment(loader=PackageLoader("serving.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals.update(bar=charts.bar, swing=charts.swing, columns=charts.columns, legend=charts.legend, pages=PAGES, languages=LANGUAGES, tags=TAGS)
    return made


def render(template: str, words: Words, formats: Formats, **values: Any) -> str:
    """A page in one language.

    Args:
        template: file in `templates`. values: what the template shows; plain texts are escaped. layout: what stands around a page, by default the
            console; "chapter.html" is nothing at all, for a report that leads nowhere.
    """
    values = {"layout": "base.html", **values}
    helpers = {"t": words.text, "f": formats, "known": words.known, "said": said(words), "label": label(words), "language": words.language}
    return environment().get_template(template).render(**helpers, **values)


def said(words: Words) -> Any:
    """Marks a text that comes from elsewhere in English, so that a screen reader speaks it so; in this language where the catalogue has it."""

    def mark(text: str | None, table: str = "said") -> str | Markup:
        if not text:
            return ""
        if (found := words.meaning(text) if table == "meaning" else words.said(text)) is not None:
            return found
        return text if words.language == "en" else Markup('<span lang="en">{}</span>').format(text)

    return mark


def label(words: Words) -> Any:
    """A word of the data in this language, or as it is."""
    return lambda text, table="label": words.known(table, str(text)) or str(text)


def plain_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
