"""`encore shop report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from features.commands import WorkspaceOption
from features.errors import InvalidUse, MissingExtra, UnknownName
from features.files import write_bytes
from features.logs import step
from features.workspace import open_workspace
from training.commands import shop_words


def mount() -> None:
    """Add `encore shop report` to `encore shop`."""
    shop_words.command()(report)


def report(
    workspace: WorkspaceOption = None,
    out: Annotated[Path | None, typer.Option(help="File to write. Default: reports/shop-DATE-LANGUAGE.html in the workspace.", show_default=False)] = None,
    language: Annotated[str, typer.Option(help="en or zh.")] = "en",
    pdf: Annotated[bool, typer.Option("--pdf", help="A PDF beside it as well, printed by a chromium that is on the PATH.")] = False,
) -> None:
    """The shop and how far to trust each prediction, as one HTML file to send to somebody who has no access to the service.

    It is about the release in service, names no user, needs nothing outside itself and opens by a double click. The service need not run.
    """
    try:
        from serving.app import service_settings
        from serving.console.report import report_html, write_pdf
        from serving.console.told import Told
        from serving.console.words import LANGUAGES
        from serving.ledger import Ledger
        from serving.pointer import current_id, directory_of
        from serving.release import load_release
        from serving.scorer import Scorer
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    if language not in LANGUAGES:
        raise UnknownName("language", language, LANGUAGES)
    place = open_workspace(workspace)
    with step("shop report") as found:
        release = load_release(directory_of(place.releases, current_id(place.releases)))
        told = Told(place.releases, Scorer(release, service_settings(place).good_for))
        page = _target(out, place.root / "reports", f"shop-{release.manifest['as_of']}-{language}.html")
        write_bytes(page, report_html(told, Ledger(place.ledger_url), language).encode())
        found |= {"release": release.id, "page": str(page)}
        if pdf:
            write_pdf(page, page.with_suffix(".pdf"))
            found |= {"pdf": str(page.with_suffix(".pdf"))}


def _target(out: Path | None, folder: Path, name: str) -> Path:
    page = folder / name if out is None else out / name if out.is_dir() else out
    if page.suffix.lower() not in (".html", ".htm"):
        raise InvalidUse(f"--out is '{page}'; it must be a folder, or a file whose name ends in .html. For a PDF beside it: --pdf")
    return page
