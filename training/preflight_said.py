"""What pre-flight found, as a person reads it: each prediction with its verdict, then each finding once, with the predictions that it concerns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from training.preflight import Check, Verdict

SAID = {Verdict.PASS: "yes", Verdict.WARN: "yes, with less trust", Verdict.FAIL: "no"}
STYLES = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def show(checks: Sequence[Check], console: Console) -> None:
    """Print the verdicts and what stands behind them."""
    table = Table("prediction", "can be trained", "because of", box=None)
    for task in dict.fromkeys(check.task for check in checks):
        worst, why = verdict([check for check in checks if check.task == task])
        table.add_row(task, Text(SAID[worst], STYLES[worst]), ", ".join(why))
    console.print(table)
    for finding in findings(checks):
        console.print(Text(f"\n{finding}"), soft_wrap=True)


def verdict(checks: Sequence[Check]) -> tuple[Verdict, list[str]]:
    """The worst verdict among a prediction's checks, and the checks that have it."""
    worst = max((check.verdict for check in checks), key=list(Verdict).index)
    return worst, [check.name for check in checks if check.verdict is worst and worst is not Verdict.PASS]


def findings(checks: Sequence[Check]) -> Iterator[str]:
    """What is not as it should be: failures before warnings, and what was seen of several predictions told once."""
    told: dict[tuple[Verdict, str, str, str, str], list[str]] = {}
    for check in checks:
        if check.verdict is not Verdict.PASS:
            told.setdefault((check.verdict, check.name, check.seen, check.required, check.advice), []).append(check.task)
    for (_, name, seen, required, advice), tasks in sorted(told.items(), key=lambda one: one[0][0] is not Verdict.FAIL):
        yield f"{name} ({', '.join(tasks)}): {seen}; required: {required}.\n  {advice}"
