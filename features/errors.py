"""Every error that Encore raises on purpose, written for the person who can act on it.

The errors know nothing of HTTP or exit codes: `features.exit_codes` and `serving.border.problems` each hold one
table that maps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from difflib import get_close_matches

MOST_NAMES = 40  # of the known ones, in one message: an export has eighty columns


class EncoreError(Exception):
    """Base of all errors below; its text says what was seen, what is allowed and what to do next."""


class UnknownName(EncoreError):
    """A name (task, source, view, column, setting) that is not among the known ones."""

    def __init__(self, kind: str, seen: str, allowed: Iterable[str]) -> None:
        self.kind, self.seen, self.allowed = kind, seen, sorted(allowed)
        super().__init__(unknown_name(kind, seen, self.allowed))


class InvalidTable(EncoreError):
    """An input table cannot be accepted; `problems` lists everything that is wrong with it, not just the first."""

    def __init__(self, table: str, problems: Sequence[str]) -> None:
        self.table, self.problems = table, list(problems)
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{table} cannot be read. Nothing was written. {len(self.problems)} problem(s):\n{lines}")


class InvalidShopFile(EncoreError):
    """`encore.toml` has settings that are unknown or of the wrong kind; all of them are listed."""

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{path} needs a correction in {len(self.problems)} place(s):\n{lines}")


class InvalidUse(EncoreError):
    """A command was asked for what cannot be done like this."""


class NoUsableData(EncoreError):
    """There is nothing to work on: an empty file, an empty window, too few positives."""


class LabelWindowOpen(EncoreError):
    """A label was asked for whose outcome window is not over in the data."""

    def __init__(self, as_of: date, needs_until: date, complete_until: date) -> None:
        self.as_of, self.needs_until, self.complete_until = as_of, needs_until, complete_until
        super().__init__(
            f"The label as of {as_of} needs events up to {needs_until}, but the log is complete only until "
            f"{complete_until}. Choose an earlier as_of, a shorter horizon, or ingest the missing days."
        )


class SnapshotRefused(EncoreError):
    """A snapshot on disk is missing, damaged or not the one that was asked for."""


class BundleRefused(EncoreError):
    """A model bundle is damaged, or was made for other features than it is given."""


class ReleaseRefused(EncoreError):
    """A release failed its verification; what was served before stays served."""


class NoRelease(EncoreError):
    """The service has no release to answer from."""


class GateRefused(EncoreError):
    """The challenger may not replace the champion; the reasons are in the text."""


class BelowExpectation(EncoreError):
    """What was judged is surely worse than it was expected to be, or not what it was; what to do stands in the text."""


class Locked(EncoreError):
    """Another process is doing the same work."""


class TrackingUnavailable(EncoreError):
    """MLflow could not be reached or answered with an error."""


class WorkerLost(EncoreError):
    """A process that did part of the work was ended from outside."""


class NotWritten(EncoreError):
    """The disk is full or may not be written; what stood there before stands there still."""

    def __init__(self, error: OSError) -> None:
        where = f" ({error.filename})" if error.filename else ""
        super().__init__(f"A file could not be written{where}: {error.strerror or error}. What was there is as it was. Make room, then run again.")


class MissingExtra(EncoreError):
    """A part of Encore was asked for whose dependencies are not installed here."""

    def __init__(self, extra: str, missing: str | None) -> None:
        super().__init__(f"This command needs the '{extra}' part of Encore ({missing} is not installed). From Encore's own folder: pip install '.[{extra}]'")


def unknown_name(kind: str, seen: str, allowed: Sequence[str]) -> str:
    """One sentence for a name that is not known: the value seen, the nearest match, what is allowed."""
    near = get_close_matches(seen, allowed, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    more = f" and {len(allowed) - MOST_NAMES} more" if len(allowed) > MOST_NAMES else ""
    return f"Unknown {kind} '{seen}'.{hint} Known: {', '.join(allowed[:MOST_NAMES]) or 'none'}{more}."
