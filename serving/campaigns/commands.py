"""`encore campaign start`, `enrol`, `list`, `report`, `monitor` and `stop`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from features.commands import WorkspaceOption, show
from features.errors import InvalidUse, MissingExtra
from features.logs import log
from features.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from serving.ledger import Ledger

Name = Annotated[str, typer.Argument(help="The campaign's name or id.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of entry, on the shop's clock. Default: today.", show_default=False)]
Factor = Annotated[list[str] | None, typer.Option("--factor", help='A feature or label, or two joined by " x "; repeatable.', show_default=False)]


def mount(app: typer.Typer) -> None:
    """Add `encore campaign …`."""
    words = typer.Typer(name="campaign", help="Who was treated and who was kept out, and what that changed.", no_args_is_help=True)
    for command in (start, enrol, report, monitor, stop):
        words.command()(command)
    words.command("list")(list_campaigns)
    app.add_typer(words)


def start(
    name: Annotated[str, typer.Argument(help="What the campaign is called.")],
    horizon: Annotated[int, typer.Option(help="Days that count, from the day of entry on.", min=1, max=365)],
    workspace: WorkspaceOption = None,
    audience: Annotated[str | None, typer.Option(help="A saved audience. Without one: drawn elsewhere, enrolled from the log.", show_default=False)] = None,
    prediction: Annotated[str | None, typer.Option(help="Whose score is noted at entry. Default: the one that ranks the audience.", show_default=False)] = None,
    starts: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day of entry. Default: today.", show_default=False)] = None,
    when: Annotated[str, typer.Option(help="The trigger, in words.")] = "",
    incentive: Annotated[str, typer.Option(help="What is offered, in words.")] = "",
    channel: Annotated[str, typer.Option(help="By which way, such as e-mail.")] = "",
    goal: Annotated[str, typer.Option(help="order, spend, or an event of the vocabulary.")] = "order",
    where: Annotated[str, typer.Option(help='Properties of the event as JSON, such as {"level": {"at_least": 4}}.')] = "{}",
    hold_out: Annotated[float, typer.Option(help="Share of the audience that is kept out, by lot, as control.", min=0, max=0.99)] = 0.1,
    usual: Annotated[float, typer.Option(help="Share that gets what is usual instead, by the same lot.", min=0, max=0.99)] = 0.0,
    salt: Annotated[str, typer.Option(help="Of the lot. Default: the campaign's own; the same salt is the same lot.")] = "",
    log_name: Annotated[str, typer.Option(help="What its events call the campaign. Default: its name.")] = "",
    contact_cost: Annotated[float, typer.Option(help="Of a message sent, in the shop's currency.", min=0)] = 0.0,
    coupon_cost: Annotated[float, typer.Option(help="Of a coupon redeemed.", min=0)] = 0.0,
    margin: Annotated[float | None, typer.Option(help="What a conversion earns before these costs.", show_default=False)] = None,
    margin_share: Annotated[float | None, typer.Option(help="Instead: the share of spend that is earned.", show_default=False)] = None,
    target: Annotated[float | None, typer.Option(help="Hoped-for conversion rate of the treated, or spend per member.", show_default=False)] = None,
    winsorise: Annotated[float | None, typer.Option(help="Quantile above which spend counts as much as at it, such as 0.99.", show_default=False)] = None,
) -> None:
    """Log a campaign before it begins: when, who, incentive, channel, goal, horizon and hold-out. None of it can be changed afterwards."""
    place, ledger = _open(workspace)
    from serving.audiences.holdout import shares_of
    from serving.campaigns.plan import Plan, checked
    from serving.campaigns.store import save_campaign

    saved = ledger.audience(audience) if audience else None
    plan = Plan(
        name=name,
        starts=(starts or _now(place)).date(),
        horizon=horizon,
        audience=saved.name if saved else None,
        rule=dict(saved.rule) if saved else None,
        task=prediction or (saved.rule.get("task") if saved else None),
        when=when,
        incentive=incentive,
        channel=channel,
        goal=goal,
        where=_json(where),
        shares=shares_of(hold_out, usual),
        salt=salt,
        log_name=log_name,
        contact_cost=contact_cost,
        coupon_cost=coupon_cost,
        margin=margin,
        margin_share=margin_share,
        target=target,
        winsorise=winsorise,
    )
    campaign, new = save_campaign(ledger, checked(plan))
    log.info("campaign logged" if new else "campaign was logged already", extra={"facts": {"id": campaign.id, "name": name, "starts": campaign.plan.starts}})


def enrol(
    name: Name,
    workspace: WorkspaceOption = None,
    on: Day = None,
    release: Annotated[str | None, typer.Option(help="Id of another release than the one in service.", show_default=False)] = None,
    from_log: Annotated[bool, typer.Option("--from-log", help="Enter whom campaign_received and held_out events name: the lot was drawn elsewhere.")] = False,
) -> None:
    """Enter the audience as it is now, each member in the group of their lot, with score and release. Safe to repeat, late and in pieces."""
    place, ledger = _open(workspace)
    from serving.campaigns import store
    from serving.campaigns.enrol import enrol as enrol_audience
    from serving.campaigns.enrol import enrol_from_log
    from serving.pointer import current_id, directory_of
    from serving.release import load_release

    of = store.campaign(ledger, name)
    known = release is not None or (place.releases / "current").exists() or not from_log
    loaded = load_release(directory_of(place.releases, release or current_id(place.releases))) if known else None
    if from_log or loaded is None:
        new = enrol_from_log(ledger, place.tiles(place.shop()), loaded, of)
    else:
        new = enrol_audience(ledger, loaded, of, (on or _now(place)).date())
    log.info("enrolled", extra={"facts": {"campaign": of.plan.name, "new": new, **store.group_sizes(ledger, of)}})


def list_campaigns(workspace: WorkspaceOption = None) -> None:
    """Every campaign: when it began, its goal, who is in which group, its state."""
    _, ledger = _open(workspace)
    from serving.campaigns import store

    table = Table("name", "from", "goal", "days", "groups", "state", "id")
    for one in store.campaigns(ledger):
        sizes = ", ".join(f"{group} {size:,}" for group, size in store.group_sizes(ledger, one).items())
        table.add_row(one.plan.name, str(one.plan.starts), one.plan.goal, str(one.plan.horizon), sizes, one.state, one.id)
    show(table)


def report(
    name: Name,
    workspace: WorkspaceOption = None,
    factor: Factor = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page. Default: campaigns/<id> in the workspace.", show_default=False)] = None,
) -> None:
    """Say what the campaign changed, against the users who were kept out: page, pictures and report.json. It ends the campaign's entry.

    Exit code 6 says that an outcome window is not over yet; until then there is only `encore campaign monitor`.
    """
    place, ledger = _open(workspace)
    try:
        from serving.campaigns.page import write_page
        from serving.campaigns.report import make_report
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    of, found = make_report(place, ledger, name, factor)
    folder = out or place.root / "campaigns" / of.id
    write_page(found, folder)
    for line in (found["verdict"], *(f"Warning: {warning}" for warning in found["warnings"])):
        typer.echo(line)
    log.info("campaign report", extra={"facts": {"campaign": of.plan.name, "page": str(folder / "report.md")}})


def monitor(
    name: Name, workspace: WorkspaceOption = None, as_json: Annotated[bool, typer.Option("--json", help="All of it as one JSON object.")] = False
) -> None:
    """Say what is off today while the campaign runs; ask as often as you like. Exit code 3 where there is an alarm.

    Interim numbers, and no effect: that is known when the outcome windows are over.
    """
    place, ledger = _open(workspace)
    try:
        from serving.campaigns.report import make_monitor
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    of, found = make_monitor(place, ledger, name)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        typer.echo(found["note"])
        for alarm in found["alarms"]:
            typer.echo(f"ALARM {alarm['what']}: {alarm['seen']}. {alarm['next_step']}")
    log.info("campaign watched", extra={"facts": {"campaign": of.plan.name, "until": found["complete_until"], "alarms": len(found["alarms"])}})
    if found["alarms"]:
        raise typer.Exit(3)


def stop(name: Name, workspace: WorkspaceOption = None) -> None:
    """Let nobody enter any more. Who is in stays in, and the effect is measured when their windows are over."""
    _, ledger = _open(workspace)
    from serving.campaigns.store import stop_campaign

    of = stop_campaign(ledger, name)
    log.info("campaign stopped", extra={"facts": {"campaign": of.plan.name, "state": of.state}})


def _open(workspace: Path | None) -> tuple[Workspace, Ledger]:
    try:
        from serving.ledger import Ledger
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    place = open_workspace(workspace)
    return place, Ledger(place.ledger_url)


def _now(place: Workspace) -> datetime:
    from zoneinfo import ZoneInfo

    return datetime.now(ZoneInfo(place.shop().zone))


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidUse('--where must be a JSON object, such as {"level": {"at_least": 4}}.')
    return found
