"""The shop report: one HTML file of the shop and of how far to trust each prediction, for somebody who has no access to the service; and its PDF."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from features.errors import EncoreError
from features.files import write_bytes
from serving.console import shop, trust
from serving.console.formats import Formats
from serving.console.render import render
from serving.console.told import Told
from serving.console.words import Words
from serving.ledger import Ledger

CHAPTER = "chapter.html"
STYLES = ("console.css", "report.css")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PATIENCE = 180  # seconds for a browser to print; a report takes a few


class NotPrinted(EncoreError):
    """No browser made a PDF of the report; the HTML is written."""


def report_html(told: Told, ledger: Ledger, language: str) -> str:
    """The whole file. A function of the release and of what the ledger knows of realised quality: nothing in it depends on the day it is made.

    It is of parts of the console's pages, so its numbers are theirs. It names no user, and leads to no address but places in itself.

    Args:
        language: one of `words.LANGUAGES`.
    """
    words, formats = Words(language), Formats(language, told.manifest["currency"], told.manifest["zone"])
    anchors = {task: f"trust-{number}" for number, task in enumerate(told.tasks, 1)}
    chapters = [("shop", render("shop.html", words, formats, layout=CHAPTER, one=shop.page(told, words, formats)))]
    for task, anchor in anchors.items():
        chapters.append((anchor, render("trust_one.html", words, formats, layout=CHAPTER, one=trust.page(told, ledger, task, words, formats))))
    name = told.shop_name
    return render(
        "report.html",
        words,
        formats,
        title=words.text("report.title", shop=name) if name else words.text("report.unnamed"),
        style=Markup("\n".join((files("serving.console") / "static" / style).read_text(encoding="utf-8") for style in STYLES)),  # noqa: S704 - our own files
        manifest=told.manifest,
        made_on=told.scored_at.astimezone(formats.zone).date(),
        cards=trust.overview(told),
        anchors=anchors,
        chapters=[(anchor, Markup(_opened(chapter))) for anchor, chapter in chapters],  # noqa: S704 - rendered, so escaped
    )


def _opened(chapter: str) -> str:
    """With every table open: paper has nothing to click on. What comes from data is escaped, so it holds no such tag."""
    return re.sub(r"<details>", "<details open>", chapter)


def write_pdf(page: Path, target: Path) -> None:
    """Print a page by a browser that is installed here, so that the PDF is what people see.

    Args:
        page: the HTML file. target: the PDF file, whole or not there.

    Raises:
        NotPrinted: there is no such browser, or it failed.
    """
    instead = f"{page} is written: open it in any browser and print it."
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise NotPrinted(f"A PDF takes a browser, and none of {', '.join(BROWSERS)} is on the PATH. Install one (apt-get install chromium). {instead}")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="printing-") as folder:  # beside the page: a confined browser may not read /tmp
        printed = Path(folder) / "report.pdf"
        command = [browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={folder}/profile", f"--print-to-pdf={printed}"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # it has none for root, as in a container; the page runs nothing and loads nothing
        try:
            ended = subprocess.run([*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603 - our own page
        except subprocess.TimeoutExpired:
            raise NotPrinted(f"{browser} did not print within {PATIENCE} seconds. {instead}") from None
        if not printed.exists() or not printed.read_bytes().startswith(b"%PDF-"):
            said = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
            raise NotPrinted(f"{browser} made no PDF (exit code {ended.returncode}: {said}). {instead}")
        write_bytes(target, printed.read_bytes())
