"""`encore audiences preview`, `save`, `list`, `refresh`, `suggest`, `members` and `power`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.commands import WorkspaceOption, show
from features.errors import InvalidUse, MissingExtra
from features.logs import log
from features.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from serving.audiences.cut import Audience
    from serving.audiences.rules import Rule
    from serving.ledger import Ledger
    from serving.release import Release

Task = Annotated[str | None, typer.Option("--task", "-t", help="The prediction to rank by.")]
Where = Annotated[
    str | None,
    typer.Option("--where", help='Condition: JSON such as \'{"feature": "orders_count", "at_least": 2}\', or words: "super users".'),
]
Cut = Annotated[
    list[str] | None,
    typer.Option("--cut", "-c", metavar="NAME=VALUE", help="top_n or top_percent, either with skip_percent; min_percentile, max_percentile, min_probability, "
                 "max_probability, band, or budget with contact_cost and coupon_cost."),
]  # fmt: skip
Holdout = Annotated[float, typer.Option("--holdout", help="Per cent of the members that the campaign leaves alone, as control.", min=0, max=99)]
Usual = Annotated[float, typer.Option("--business-as-usual", help="Per cent that gets what it would get without the campaign.", min=0, max=99)]
Worth = Annotated[float, typer.Option(help="How many times the sample an adjustment by model score and pre-period is worth.", min=0.01)]
Name = Annotated[str, typer.Argument(help="The audience's name or id.")]


def mount(app: typer.Typer) -> None:
    """Add `encore audiences …`."""
    audiences = typer.Typer(name="audiences", help="Whom to speak to: cut by score, rule and budget; kept; held out; refreshed.", no_args_is_help=True)
    for name, command in (
        ("preview", preview), ("save", save), ("list", list_audiences), ("refresh", refresh), ("suggest", suggest), ("members", members), ("power", power),
    ):  # fmt: skip
        audiences.command(name)(command)
    app.add_typer(audiences)


def preview(
    task: Task = None,
    where: Where = None,
    cut: Cut = None,
    margin: Annotated[float | None, typer.Option(help="Of a conversion, for the profit and the cut to recommend.")] = None,
    coupon_cost: Annotated[float, typer.Option(help="For each who converts.")] = 0.0,
    contact_cost: Annotated[float, typer.Option(help="For each member.")] = 0.0,
    budget: Annotated[float | None, typer.Option(help="The most to spend.")] = None,
    holdout: Holdout = 10.0,
    business_as_usual: Usual = 0.0,
    workspace: WorkspaceOption = None,
) -> None:
    """What would come of an audience: its size, what is expected of it, what a hold-out could prove, what it earns. Nothing is kept."""
    release = _release(open_workspace(workspace))
    from serving.audiences.conditions import hints_of
    from serving.audiences.cut import cut as cut_audience
    from serving.audiences.holdout import shares_of
    from serving.audiences.members import split
    from serving.audiences.profit import Economics, recommended
    from serving.audiences.ranking import ranking

    rule = _rule(release, task, where, cut)
    audience = cut_audience(release, rule)
    for hint in hints_of(rule.where, release) if rule.where else ():
        log.warning(str(hint))
    groups = split(release, audience.rows, "", shares_of(holdout / 100, business_as_usual / 100))
    told = _measures(audience, release) | {name.replace("_", " "): f"{count:,}" for name, count in groups.items()} | _power(audience, groups, 1.0)
    if margin is not None and rule.task is not None and (audience.expected is not None or release.bundles[rule.task].kind == "effect"):
        best = recommended(ranking(release, rule.task, rule.where), Economics(margin, coupon_cost, contact_cost, budget), release.bundles[rule.task].kind)
        told |= {"recommended size": f"{best.size:,}: {best.reason}", "profit there": f"{best.at:,.2f} at a cost of {best.cost:,.2f}; {best.note}"}
    _show_facts(told)


def save(
    name: Annotated[str, typer.Argument(help="Under which journeys, exports and campaigns ask for it.")],
    task: Task = None,
    where: Where = None,
    cut: Cut = None,
    kind: Annotated[str, typer.Option(help="live: follows each release; snapshot: keeps the members of now.")] = "live",
    holdout: Holdout = 10.0,
    business_as_usual: Usual = 0.0,
    workspace: WorkspaceOption = None,
) -> None:
    """Keep an audience by name. A tenth of it is held out for life unless --holdout says else: without it nobody will know what a campaign adds."""
    place = open_workspace(workspace)
    release, ledger = _release(place), _ledger(place)
    from features.errors import unknown_name
    from serving.audiences.holdout import shares_of
    from serving.audiences.members import KINDS
    from serving.audiences.members import save as save_audience
    from serving.audiences.requests import NAME, may_be_called

    if kind not in KINDS:
        raise InvalidUse(unknown_name("kind", kind, KINDS))
    if not may_be_called(name, release):
        raise InvalidUse(f"'{name}' is a prediction's name or a path's, or has other letters than a name may have ({NAME}). Choose another name.")
    shares = shares_of(holdout / 100, business_as_usual / 100) if holdout or business_as_usual else None
    saved, new = save_audience(ledger, release, name, _rule(release, task, where, cut), kind, shares)
    log.info("audience kept" if new else "audience was kept already", extra={"facts": {"name": saved.name, "id": saved.id, "kind": kind, "holdout": holdout}})


def list_audiences(workspace: WorkspaceOption = None) -> None:
    """Every kept audience: kind, size today, hold-out, when its members were last written down."""
    from rich.table import Table

    from features.errors import EncoreError

    place = open_workspace(workspace)
    release, ledger = _release(place), _ledger(place)
    from serving.audiences.members import audience_of

    table = Table("name", "kind", "size", "expected", "held out", "refreshed", "rule")
    for saved in ledger.audiences():
        try:
            audience = audience_of(release, saved, ledger)
            size, expected = f"{audience.size:,}", "" if audience.expected is None else f"{audience.expected:,.0f}"
        except EncoreError as error:
            size, expected = "-", str(error)
        held = " ".join(f"{name} {share:.0%}" for name, share in (saved.shares or {}).items() if name != "treatment")
        when = f"{saved.refreshed_at:%Y-%m-%d %H:%M}" if saved.refreshed_at else ""
        table.add_row(saved.name, saved.kind, size, expected, held, when, json.dumps({name: value for name, value in saved.rule.items() if value is not None}))
    show(table)


def refresh(names: Annotated[list[str] | None, typer.Argument(help="Default: all live audiences.")] = None, workspace: WorkspaceOption = None) -> None:
    """Let the members of live audiences follow the release in service: who enters, who leaves. Done again, it changes nothing."""
    from rich.table import Table

    place = open_workspace(workspace)
    release, ledger = _release(place), _ledger(place)
    from serving.audiences.refresh import refresh as refresh_audiences

    table = Table("name", "size", "entered", "left", "")
    for one in refresh_audiences(ledger, release, names or ()):
        table.add_row(one.name, f"{one.size:,}", f"{one.entries:,}", f"{one.exits:,}", one.reason or "")
    show(table)


def suggest(workspace: WorkspaceOption = None) -> None:
    """Audiences to begin with, each with its rule; and which the shop's data or models do not give yet, and why."""
    from rich.table import Table

    release = _release(open_workspace(workspace))
    from serving.audiences.suggested import suggested

    table = Table("name", "size", "expected", "what for", "rule, or why not")
    for one in suggested(release):
        size = f"{one.audience.size:,}" if one.audience else "-"
        expected = f"{one.audience.expected:,.0f}" if one.audience and one.audience.expected is not None else ""
        table.add_row(one.name, size, expected, one.sentence, one.skipped or json.dumps(one.rule.described() if one.rule else {}))
    show(table)


def members(
    name: Name,
    group: Annotated[str | None, typer.Option(help="treatment, control or business_as_usual: of its hold-out. Default: all.")] = None,
    changed: Annotated[str | None, typer.Option(help="entries or exits: who came or went at the last refresh, instead of who is in.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Print the ids of an audience's members, best first, one a line; or of those who came or went."""
    place = open_workspace(workspace)
    release, ledger = _release(place), _ledger(place)
    from features.errors import unknown_name
    from serving.audiences.members import audience_of, changes, groups_of

    if changed is not None:
        if changed not in ("entries", "exits"):
            raise InvalidUse(unknown_name("change", changed, ("entries", "exits")))
        found: list[str] = getattr(changes(ledger, name), changed)
        return typer.echo("\n".join(found), nl=bool(found))
    saved = ledger.audience(name)
    rows, drawn = audience_of(release, saved, ledger).rows, groups_of(release, saved)
    if group is not None:
        if drawn is None or group not in drawn[0]:
            raise InvalidUse(unknown_name("group", group, drawn[0] if drawn else ()))
        rows = rows[drawn[1][rows] == drawn[0].index(group)]
    return typer.echo("\n".join(user.decode() for user in release.users[rows].tolist()), nl=bool(len(rows)))


def power(
    name: Annotated[str | None, typer.Argument(help="A kept audience; or give --size and --rate.")] = None,
    size: Annotated[int | None, typer.Option(help="Users of the audience.", min=1)] = None,
    rate: Annotated[float | None, typer.Option(help="Share of the control group that converts, such as 0.05.", min=0, max=1)] = None,
    holdout: Annotated[float, typer.Option(help="Per cent held out as control, where the audience does not say.", min=0.01, max=99)] = 10.0,
    effect: Annotated[float | None, typer.Option(help="How many users are needed to find this rise of the rate, such as 0.01.", min=1e-6, max=1)] = None,
    worth: Worth = 1.0,
    workspace: WorkspaceOption = None,
) -> None:
    """What effect a hold-out of this size can tell from chance (two-sided 5 %, power 80 %), before the campaign starts."""
    from serving.audiences.power import detectable, needed

    control = holdout / 100
    if name is not None:
        place = open_workspace(workspace)
        release, ledger = _release(place), _ledger(place)
        from serving.audiences.members import audience_of, split

        saved = ledger.audience(name)
        audience = audience_of(release, saved, ledger)
        groups = split(release, audience.rows, saved.salt or saved.name, saved.shares or {"treatment": 1 - control, "control": control})
        treated, held, rate = groups["treatment"], groups.get("control", 0), audience.precision if rate is None else rate
        control = held / audience.size if audience.size else control
    elif size is not None:
        held = round(size * control)
        treated = size - held
    else:
        raise InvalidUse("Name a kept audience, or give --size and --rate.")
    if rate is None:
        raise InvalidUse("The audience's prediction gives no probability. Give the share that converts without the campaign: --rate 0.05")
    found = detectable(treated, held, rate, worth=worth)
    told = {
        "treated": f"{treated:,}",
        "control": f"{held:,}",
        "rate": f"{rate:.4g}",
        "smallest effect found": _effect(found.effect, found.relative, found.reason),
    }
    if effect is not None and 0 < control < 1:
        users = needed(effect, rate, control, worth=worth)
        told[f"needed for {effect:+.4g}"] = "no number of users suffices" if users is None else f"{users:,} users, {control:.0%} of them held out"
    _show_facts(told)


def _rule(release: Release, task: str | None, where: str | None, cuts: list[str] | None) -> Rule:
    from serving.audiences.rules import read_rule
    from serving.audiences.words import condition_of

    given: dict[str, Any] = {}
    for text in cuts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidUse(f"--cut is '{text}'; it must be NAME=VALUE, such as top_percent=10.")
        given[name] = _number(value)
    return read_rule({**given, **({"task": task} if task else {}), **({"where": condition_of(where, release)} if where else {})})


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _measures(audience: Audience, release: Release) -> dict[str, str]:
    from serving.audiences.schemas import measures

    told = {"release": release.id, "size": f"{audience.size:,} of {audience.eligible:,}"}
    if audience.expected is None or audience.low is None or audience.high is None:
        totals = {name: f"{total:,.2f}" for name, total in measures(audience, release).items() if name.startswith("expected_") and total is not None}
        return {**told, **totals, "expected": f"none: {audience.reason}"}
    told["expected"] = f"{audience.expected:,.1f} ({audience.low:,.1f} to {audience.high:,.1f}; {audience.basis})"
    told["at random"] = f"{audience.at_random or 0:,.1f}" + ("" if audience.by_recency is None else f"; by recency {audience.by_recency:,.1f}")
    share = {"precision": audience.precision, "recall": audience.recall}
    told |= {name: f"{value:.1%}" for name, value in share.items() if value is not None}
    return told | ({} if audience.lift is None else {"lift": f"{audience.lift:.2f}"})


def _power(audience: Audience, groups: Mapping[str, int], worth: float) -> dict[str, str]:
    from serving.audiences.power import detectable

    if audience.precision is None or not groups.get("control"):
        return {}
    found = detectable(groups["treatment"], groups["control"], audience.precision, worth=worth)
    return {"smallest effect found": _effect(found.effect, found.relative, found.reason)}


def _effect(effect: float | None, relative: float | None, reason: str | None) -> str:
    return str(reason) if effect is None else f"{effect:+.4f}" + ("" if relative is None else f" ({relative:+.1%} of the rate)")


def _show_facts(facts: Mapping[str, str]) -> None:
    from rich.table import Table

    table = Table(show_header=False)
    for name, text in facts.items():
        table.add_row(name, text)
    show(table)


def _release(place: Workspace) -> Release:
    try:
        from serving.pointer import current_id
        from serving.release import load_release
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    return load_release(place.releases / current_id(place.releases))


def _ledger(place: Workspace) -> Ledger:
    from serving.ledger import Ledger

    return Ledger(place.ledger_url)
