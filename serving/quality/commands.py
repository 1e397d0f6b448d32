"""`encore quality` and `encore replay`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, time
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.table import Table

from features.commands import WorkspaceOption, show
from features.errors import BelowExpectation, InvalidUse, MissingExtra, NoRelease
from features.logs import log
from features.money import minor_units
from features.workspace import open_workspace

Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def mount(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(quality)
    app.command()(replay)


def quality(workspace: WorkspaceOption = None, as_json: Json = False) -> None:
    """Judge every score run whose horizon is over, and hold what is in service against training. Made for a schedule, after ingest.

    Writes reports/quality/quality.md with pictures, metrics/quality.prom and, into the models' runs, MLflow. A run whose horizon is
    not over is named with the date on which it will be. Exit code 3: a rule of alarm speaks (quality surely below what was expected
    then, or drift); each says what to do. Exit code 5: a run lies otherwise than it was written.
    """
    try:
        from serving.ledger import Ledger
        from serving.pointer import current_id
        from serving.quality.gauges import write_gauges
        from serving.quality.judge import look
        from serving.quality.page import write_page
        from serving.quality.standing import standings
        from serving.quality.track import track
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    place = open_workspace(workspace)
    ledger = Ledger(place.ledger_url)
    found, currency = look(place, ledger), place.shop().currency
    track(place, ledger)
    try:
        known = standings(ledger, current_id(place.releases))
    except NoRelease:
        known = standings(ledger)
    write_gauges(place.root, known)
    page = write_page(place.root / "reports" / "quality", known, currency)
    if as_json:
        typer.echo(json.dumps({task: _plain(standing) for task, standing in known.items()}, ensure_ascii=False))
    else:
        show(_table(known, currency))
        log.info("realised quality", extra={"facts": {"judged": len(found.judged), "pending": len(found.pending), "page": str(page)}})
    alerts = [f"{task}: {alert['rule']}: {alert['text']}. {alert['advice']}" for task, standing in known.items() for alert in standing.alerts]
    if alerts:
        raise BelowExpectation("\n".join([*alerts, *found.problems]))
    if found.problems:
        from serving.runs import RunChanged

        raise RunChanged("\n".join(found.problems))


def replay(
    user: Annotated[str, typer.Argument(help="Id of a user.")],
    task: Annotated[str, typer.Option("--task", "-t", help="A prediction, such as repeat_order.")],
    at: Annotated[str, typer.Option("--at", help="Moment in the shop's zone, as 2026-10-01T09:30; a date alone is the end of that day.")],
    workspace: WorkspaceOption = None,
    as_json: Json = False,
) -> None:
    """What was answered for a user at a moment, and the same computed again: equal to the bit, or where it differs. Exit code 3: it differs."""
    try:
        from serving.quality.replay import replay as replay_score
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    place = open_workspace(workspace)
    found = replay_score(place, user, task, moment_of(at, ZoneInfo(place.shop().zone)))
    where = f"release {found.release} (in service since {found.since}), features of {found.as_of}, score run {found.run or 'none'}"
    if as_json:
        numbers = {name: _without_nan(getattr(found, name)) for name in ("stored", "again")}
        told = {**vars(found), **numbers, "reasons": [vars(reason) for reason in found.reasons], "equal": not found.differs}
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        typer.echo(f"{found.task} of {found.user_id}: {where}")
        if found.stored is None and found.again is None:
            typer.echo("The user was not known then, or not one of those whom the question is about; computed again, still so.")
        elif found.stored is not None:
            _show(found.stored, found.again or {})
        for reason in found.reasons:
            typer.echo(f"  {reason.effect} {abs(reason.contribution):.4f}  {reason.text}")
    if found.differs:
        notes = "".join(f"\n  - {note}" for note in found.notes)
        raise BelowExpectation(f"Computed again from {found.source}, {', '.join(found.differs)} came out otherwise.{notes}")
    if not as_json:
        typer.echo(f"Computed again from {found.source}: equal to the bit.")


def moment_of(text: str, zone: ZoneInfo) -> datetime:
    """A moment in a zone, from a date and a time; a date alone is its last moment, when all that it brought was in service.

    Raises:
        InvalidUse: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidUse(f"--at is '{text}'; it must be a date or a moment, such as 2026-10-01 or 2026-10-01T09:30.") from None
    if len(text) <= len("2026-10-01"):
        moment = datetime.combine(moment.date(), time.max)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _without_nan(numbers: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """As JSON can say it."""
    return None if numbers is None else {name: None if value != value else value for name, value in numbers.items()}


def _show(stored: Mapping[str, Any], again: Mapping[str, Any]) -> None:
    table = Table("", "served", "computed again")
    for name, value in stored.items():
        if value is not None:
            table.add_row(name, repr(value), repr(again.get(name)))
    show(table)


def _table(known: Mapping[str, Any], currency: str) -> Table:
    from serving.quality.standing import headline, judged_stratum

    table = Table("prediction", "features of", "among", "rows", "metric", "realised", "promised", "expected", "actual", "next", "alerts")
    for task, standing in known.items():
        upcoming = f"{standing.next_closes} ({len(standing.pending)} pending)" if standing.pending else ""
        alerts = ", ".join(alert["rule"] for alert in standing.alerts)
        if standing.last is None:
            reason = standing.unanswered[-1][1] if standing.unanswered else "not over yet" if standing.pending else "no score run"
            table.add_row(task, "", "", "", "", reason, "", "", "", upcoming, alerts)
            continue
        run, judgement = standing.last
        stratum = judged_stratum(judgement.facts) or "all"
        told = judgement.facts[stratum]
        name, seen, promised = headline(run.kind, told)
        expected, actual = (told.get("expected") or {}).get("value"), told.get("actual")
        numbers = ["-" if value is None else f"{value / (minor_units(currency) if run.kind == 'value' else 1):,.4g}" for value in (expected, actual)]
        table.add_row(task, str(run.as_of), stratum, f"{told['rows']:,}", name, _told(seen), _told(promised), *numbers, upcoming, alerts)
    return table


def _told(interval: Mapping[str, Any] | None) -> str:
    if not interval or interval["value"] is None:
        return "-"
    return f"{interval['value']:.3f}" + ("" if interval["low"] is None else f" [{interval['low']:.3f}, {interval['high']:.3f}]")


def _plain(standing: Any) -> dict[str, Any]:
    judged = [{"as_of": run.as_of.isoformat(), "run": run.run, "number": one.number, "facts": one.facts, "alerts": one.alerts} for run, one in standing.judged]
    pending = [{"as_of": run.as_of.isoformat(), "run": run.run, "closes": run.closes.isoformat()} for run in standing.pending]
    return {"judged": judged, "pending": pending, "alerts": standing.alerts, "drift": standing.drift.facts if standing.drift else None}
