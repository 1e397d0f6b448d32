"""`encore shop report`: one file that stands alone, says what the pages say, and names nobody."""

from __future__ import annotations

import os
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

import encore
from features.errors import InvalidUse, NoRelease, UnknownName
from serving.console.report import BROWSERS, NotPrinted
from serving.release import load_release

LANGUAGES = {"en": "en", "zh": "zh-Hans"}


class Parts(HTMLParser):
    """What a page refers to, what can be referred to in it, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.to, self.ids, self.tags, self.open = [], [], set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.tags.add(tag)
        self.to += [told[name] for name in ("href", "src", "action", "data", "poster", "srcset") if name in told]
        self.ids += [told["id"]] if "id" in told else []
        self.open += ["open" in told] if tag == "details" else []


@pytest.fixture(scope="module")
def place(small_workspace, tmp_path_factory):
    """A workspace with a published release and nothing else; no service runs."""
    root = tmp_path_factory.mktemp("report") / "workspace"
    shutil.copytree(small_workspace.root / "releases", root / "releases")
    return root


def run(place: Path, *words: str):
    return CliRunner().invoke(encore.app, ["shop", "report", "--workspace", str(place), *words])


@pytest.fixture(scope="module")
def pages(place):
    """Language -> the report, by default where it is looked for."""
    found = {}
    for language in LANGUAGES:
        said = run(place, "--language", language)
        assert said.exit_code == 0, said.output
        (found[language],) = (place / "reports").glob(f"shop-*-{language}.html")
    return {language: path.read_text() for language, path in found.items()}


def words_of(markup: str) -> list[str]:
    return unescape(re.sub(r"<[^>]*>", " ", markup)).split()


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_stands_alone(pages, language):
    page, parts = pages[language], Parts(pages[language])
    assert page.startswith("<!doctype html>")
    assert f'<html lang="{LANGUAGES[language]}">' in page
    assert '<meta charset="utf-8">' in page
    assert parts.tags.isdisjoint({"script", "link", "img", "iframe", "object", "form", "base"})
    assert {to.removeprefix("#") for to in parts.to} <= set(parts.ids)
    assert all(to.startswith("#") for to in parts.to)
    assert len(parts.ids) == len(set(parts.ids))
    assert not re.search(r"https?:|//\w|url\(|@import|/console|sqlite:", page)
    assert parts.open
    assert all(parts.open)  # paper has nothing to click on


@pytest.mark.parametrize("language", LANGUAGES)
def test_nobody_is_in_it(place, pages, language):
    release = load_release(next(place.glob("releases/2*")))
    assert release.id in pages[language]
    assert len(release.users) > 100
    assert {user.decode() for user in release.users} & set(re.findall(r"[\w-]+", pages[language])) == set()


def test_every_prediction_is_in_it(published, releases):
    """Of a release without the files behind its pages, too: each part then says what is missing."""
    assert run(releases.parent, "--out", str(releases.parent)).exit_code == 0
    page = next(releases.parent.glob("shop-*-en.html")).read_text()
    parts = Parts(page)
    assert sum(one.startswith("trust-") for one in parts.ids) == len(published.bundles) > 1
    assert {to.removeprefix("#") for to in parts.to} <= set(parts.ids)
    assert "user-0" not in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_says_word_for_word_what_the_pages_say(place, pages, serve, tmp_path, language):
    """But for links into the console, ways into MLflow, the reasons that stand above already, and what an operator is to do."""
    client = serve(place / "releases", tmp_path)
    chapters = dict(re.findall(r'<article class="chapter" id="([^"]+)">(.*?)<p class="back">', pages[language], flags=re.S))
    tasks = [*client.app.state.current.scorer.release.bundles]
    for anchor, target in {"shop": "shop", **{f"trust-{number}": f"trust/{task}" for number, task in enumerate(tasks, 1)}}.items():
        body = client.request("GET", f"/console/{target}", headers={"accept-language": language}).body.decode()
        main = re.search(r"<main[^>]*>(.*)</main>", body, flags=re.S)[1]
        main = re.sub(r'<p class="notice warn" role="status">.*?</p>|<p class="crumb">.*?</p>|<a href="/console/why.*?</a>', "", main, flags=re.S)
        ours, theirs = words_of(chapters[anchor]), words_of(main)
        assert set(ours) <= set(theirs)
        lacking = [word for word in theirs if word not in set(ours)]
        assert not [word for word in lacking if re.search(r"\d", word) and not re.search(r"sqlite:|[0-9a-f]{32}", word)], lacking
        assert len(ours) > 0.7 * len(theirs)


def test_the_same_release_gives_the_same_bytes(place, pages, tmp_path):
    out = tmp_path / "sent"
    out.mkdir()
    assert run(place, "--out", str(out), "--language", "zh").exit_code == 0
    (again,) = out.iterdir()
    assert again.read_text() == pages["zh"]


def test_a_browser_prints_it(place, tmp_path):
    if not any(shutil.which(name) for name in BROWSERS):
        missing = "chromium is not installed here (apt-get install chromium): no report is printed"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    said = run(place, "--out", str(tmp_path / "report.html"), "--pdf")
    assert said.exit_code == 0, said.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.pdf"]
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b(?!s)", printed)) >= 2


def test_without_a_browser_or_with_one_that_fails_the_page_is_written_and_the_old_pdf_stays(place, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    out, old = tmp_path / "report.html", tmp_path / "report.pdf"
    old.write_bytes(b"%PDF-1.4 of yesterday")
    none = run(place, "--out", str(out), "--pdf").exception
    (tmp_path / "bin").mkdir()
    failing = tmp_path / "bin" / "chromium"
    failing.write_text("#!/bin/sh\necho 'no display' >&2\nexit 7\n")
    failing.chmod(0o755)
    failed = run(place, "--out", str(out), "--pdf").exception
    assert isinstance(none, NotPrinted)
    assert "apt-get install chromium" in str(none)
    assert isinstance(failed, NotPrinted)
    assert "exit code 7: no display" in str(failed)
    assert out.read_text().rstrip().endswith("</html>")
    assert old.read_bytes() == b"%PDF-1.4 of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "report.html", "report.pdf"]


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["--language", "de"], UnknownName, "Known: en, zh"),
        (["--out", "report.pdf"], InvalidUse, "--pdf"),
    ],
)
def test_what_is_asked_wrongly_is_told(place, words, error, says):
    found = run(place, *words).exception
    assert isinstance(found, error)
    assert says in str(found)


def test_without_a_release_it_says_what_to_do(tmp_path):
    found = run(tmp_path).exception
    assert isinstance(found, NoRelease)
    assert "encore publish" in str(found)
    assert not (tmp_path / "reports").exists()
