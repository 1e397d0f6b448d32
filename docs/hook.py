"""What MkDocs is told beside mkdocs.yml: pages from elsewhere in the project, parts that the code itself declares, links between them.

A page of the project keeps its text where it lies. Its links stay those of the project; here they become those of the site. A line
`<!-- part: NAME ARGUMENT -->` is replaced by what the code says of itself (`PARTS`), and a test named as `tests/...py::name` leads to its source.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import declared
import operations
import proofs
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).parents[1]
ELSEWHERE = ("DECISIONS.md", "GLOSSARY.md", "CHANGELOG.md", "CONTRIBUTING.md", "deploy/README.md", "examples/schedule/README.md", "bench/*.md")
FENCED = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\(<?)([^)\s>#]+)((?:#[^)\s>]*)?>?(?:\s+\"[^\"]*\")?\))")
PART = re.compile(r"^<!-- part: (\w+)(?: ([\w-]+))? -->$", re.MULTILINE)
PARTS: dict[str, Callable[..., str]] = {"prediction": declared.prediction, "operations": operations.operations}
HOME = "README.md"  # of the project: its place in the site is the first page


def on_config(config: Any) -> Any:
    """Let a pattern in the navigation stand for every page that it fits and that is not there by name."""
    config.nav = _listed(config.nav, str(config.nav))
    return config


def _listed(nav: Any, named: str) -> Any:
    if isinstance(nav, dict):
        return {title: _listed(under, named) for title, under in nav.items()}
    if not isinstance(nav, list):
        return nav
    every = [_found(entry, named) if isinstance(entry, str) and "*" in entry else [_listed(entry, named)] for entry in nav]
    return [entry for entries in every for entry in entries]


def _found(pattern: str, named: str) -> list[str]:
    roots = (PROJECT / "docs", PROJECT)
    return [name for root in roots for path in sorted(root.glob(pattern)) if f"'{(name := path.relative_to(root).as_posix())}'" not in named]


def on_files(files: Files, config: Any) -> Files:
    """Add the project's other pages, the files that pages point to, and the sources of the tests that they name."""
    places = {f"docs/{file.src_uri}": file.src_uri for file in files if file.is_documentation_page()}
    for path in sorted(path for pattern in ELSEWHERE for path in PROJECT.glob(pattern)):
        name = path.relative_to(PROJECT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
        places[name] = name
    texts = {name: (PROJECT / name).read_text(encoding="utf-8") for name in places}
    for name in sorted({target for page, text in texts.items() for target in _targets(page, text)} - {*places, HOME}):
        if (PROJECT / name).is_file() and not files.get_file_from_path(name.removeprefix("docs/")):
            files.append(File.generated(config, f"files/{name}", abs_src_path=str(PROJECT / name)))
            places[name] = f"files/{name}"
    for name, text in proofs.pages(texts.values()).items():
        files.append(File.generated(config, name, content=text))
    config.extra["places"] = {**places, HOME: "index.md"}
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Fill in the parts, lead links to where things are in the site."""
    places, here = config.extra["places"], page.file.src_uri
    if here.startswith("tests/"):
        return markdown
    at = next((name for name, place in places.items() if place == here), here)
    filled = PART.sub(lambda found: PARTS[found[1]](*filter(None, (found[2],))), markdown)
    return outside_code(filled, lambda text: proofs.linked(_relinked(text, at, here, places), here))


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with everything changed that stands in no block of code."""
    done, last = [], 0
    for block in FENCED.finditer(text):
        done += [change(text[last : block.start()]), block[0]]
        last = block.end()
    return "".join([*done, change(text[last:])])


def _relinked(text: str, at: str, here: str, places: dict[str, str]) -> str:
    def lead(found: re.Match[str]) -> str:
        place = places.get(_target(at, found[2]) or "")
        return f"{found[1]}{posixpath.relpath(place, posixpath.dirname(here) or '.')}{found[3]}" if place else found[0]

    return LINK.sub(lead, text)


def _targets(page: str, text: str) -> Iterator[str]:
    found: list[str] = []
    outside_code(text, lambda part: found.extend(link[2] for link in LINK.finditer(part)) or "")
    yield from filter(None, (_target(page, target) for target in found))


def _target(page: str, link: str) -> str | None:
    """Where a link of a page of the project leads in the project; the README of a folder for the folder."""
    if re.match(r"[a-z][a-z+.-]*:|/", link):
        return None
    name = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(link)))
    return f"{name}/README.md" if (PROJECT / name / "README.md").is_file() else name
