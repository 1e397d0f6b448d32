"""What `encore lookalike expand` and `outcomes`, and the jobs of the service, run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from features.bought import with_bought
from features.errors import NoUsableData
from features.files import exclusive, read_json
from features.logs import step
from features.workspace import Workspace
from training.lookalike.afterwards import afterwards
from training.lookalike.afterwards import sentences as afterwards_in_words
from training.lookalike.audiences import kept_dial, read_audience
from training.lookalike.expand import PREFIX, check_size, expand, key_of, rank
from training.lookalike.keep import keep, make_audience
from training.lookalike.reach import Dial
from training.lookalike.second_round import changes, second_seed, wave_of
from training.lookalike.seed import candidates_of, mask_of, named_now, spoken_of
from training.lookalike.seed_request import WITHIN, clean, open_seed
from training.tracking import CHALLENGER, CHAMPION, Tracking, Version

PAGES = ("report.md", "evidence.json", "contrast.json")


def run_expand(workspace: Workspace, name: str, dial: Mapping[str, Any], as_of: date | None = None) -> dict[str, Any]:
    """Expand a seed, keep it in MLflow, write its audience; what to tell the user, as JSON.

    The same seed, data and code are expanded once, whether the gate passed it or refused it; the audience is made anew at each call.

    Args:
        dial: of `Dial`, by name. Where none is turned, the one of the last time is.

    Raises:
        UnknownName: no such seed. NoUsableData: it expired, or fewer are left to rank than were asked for. TrackingUnavailable: MLflow is down.
    """
    shop, today = workspace.shop(), datetime.now(UTC).date()
    tiles = workspace.tiles(shop)
    clean(workspace, tiles, today)
    seed, until = open_seed(workspace, tiles, name, today), as_of or tiles.log.complete_until
    asked = dial_of(workspace, name, dial)
    if asked.size is not None:  # said before minutes of work, not after
        check_size(workspace, tiles, seed, until, asked.size)
    tracking, page = Tracking(workspace, shop.name), workspace.root / "reports" / f"{PREFIX}{name}" / "report.md"
    version = _known(tracking, name, key_of(seed, tiles)) if all(page.with_name(file).exists() for file in PAGES) else None
    if version:  # nothing new to learn: the candidates of today, by the model of then
        bundle = tracking.load(version)
        promoted, text, number = version.tags["encore.decision"] == "passed", version.tags["encore.reasons"], version.number
        ranking = rank(workspace, tiles, seed, bundle, until) if promoted else None
    else:
        made = expand(workspace, tiles, seed, until)
        with step("keep in MLflow"), exclusive(workspace.root / ".lookalike.lock", "A look-alike of this workspace", wait=True):
            tracking.close_stale(of_seeds=True)
            kept = keep(workspace, tracking, made)
        bundle, ranking, promoted, text, number = made.bundle, made.ranking, kept.decision.promote, kept.decision.text, kept.version.number
    told: dict[str, Any] = {"task": f"{PREFIX}{name}", "version": number, "promoted": promoted, "as_of": until.isoformat(), "page": str(page)}
    lines = text.splitlines()
    if promoted and ranking and asked.is_turned:
        audience, path, expected = make_audience(workspace, name, ranking, asked, bundle.about["bands"])
        since = f"{len(audience.entries):,} new, {len(audience.exits):,} left since {audience.before}" if audience.before else "the first of this seed"
        lines.append(f"Audience as of {until}: {len(audience.users):,} users, {since}: {path}")
        if expected is not None:
            lines.append(f"At a base rate of {asked.base_rate:.2%}, {expected:,.0f} of them are what you look for ({expected / len(audience.users):.2%}).")
        told |= {"size": len(audience.users), "entries": len(audience.entries), "exits": len(audience.exits), "expected": expected, "file": str(path)}
    read = {name: read_json(page.with_name(f"{name}.json")) for name in ("evidence", "contrast")}
    return told | read | {"lines": [*lines, f"Read {page}"]}


def dial_of(workspace: Workspace, name: str, given: Mapping[str, Any]) -> Dial:
    """The dial that was turned, or else the one of the last time; a base rate that is not given stays what it was.

    Raises:
        NoUsableData: a base rate without an audience, or one that is none.
    """
    dial, before = Dial(**given), kept_dial(workspace, name) or Dial()
    if dial.base_rate is not None and not 0 < dial.base_rate < 1:
        raise NoUsableData(f"The base rate is the share of the candidates who are what you look for, above 0 and below 1; seen: {dial.base_rate:g}.")
    if not dial.is_turned:
        dial = replace(before, base_rate=dial.base_rate)
    if dial.base_rate is not None and not dial.is_turned:
        raise NoUsableData("A base rate makes probabilities for an audience: say its size, top percent or similarity too.")
    return dial if dial.base_rate is not None else replace(dial, base_rate=before.base_rate)


def _known(tracking: Tracking, name: str, key: str) -> Version | None:
    """The version that this very expansion made before: the champion, or the last that was refused."""
    found = (tracking.with_alias(f"{PREFIX}{name}", alias) for alias in (CHAMPION, CHALLENGER))
    return next((version for version in found if version and version.tags.get("encore.key") == key), None)


def run_outcomes(
    workspace: Workspace, name: str, converted: list[str], to: str | None = None, size: int | None = None, of: date | None = None
) -> dict[str, Any]:
    """The second round of a seed; what to tell the user, as JSON.

    Args:
        of: date of the audience that was reached; the last one that was sent where it is None.

    Raises:
        NoUsableData: no audience was made of the seed, or nobody in it converted. UnknownName: none of that date. SeedRefused: the new seed has a problem.
    """
    shop, today = workspace.shop(), datetime.now(UTC).date()
    tiles = workspace.tiles(shop)
    first = open_seed(workspace, tiles, name, today)
    wave = wave_of(workspace, tiles, name, converted, of)
    second = second_seed(workspace, first, wave, to or next_name(name), today)
    now = with_bought(workspace.snapshots.get(tiles, tiles.log.complete_until), tiles, spoken_of(second))
    left = int(candidates_of(second, now).sum())  # those of the wave are none any more
    made = run_expand(workspace, second.name, {"size": size or min(len(wave["users"]), left)})
    tracking, until = Tracking(workspace, shop.name), tiles.log.complete_until
    models = {seed.name: tracking.with_alias(f"{PREFIX}{seed.name}", CHAMPION) for seed in (first, second)}
    rankings = [rank(workspace, tiles, seed, tracking.load(model), until) for seed in (first, second) if (model := models[seed.name])]
    changed = changes(rankings[0], rankings[1], size or len(wave["users"])) if len(rankings) == 2 else None
    rate, auc, later = wave["rate"], wave["auc"], later_of_wave(workspace, name, date.fromisoformat(wave["as_of"]))
    lines = [f"Wave as of {wave['as_of']}: {rate['value']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}] of {len(wave['users']):,} users converted."]
    if wave["not_in_audience"]:
        lines.append(f"{wave['not_in_audience']:,} of the given ids were not in the audience and are passed over.")
    if auc:
        lines.append(f"The model of '{name}' had ranked them higher with AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]; .5 is chance.")
    lines += afterwards_in_words(later) if later else [f"The log ends on {until}: what they did afterwards beside others is not known yet."]
    if changed:
        lines.append(
            f"The new model '{second.name}' ranks {changed['candidates']:,} candidates with rank correlation {changed['rank_correlation']:.3f} to the first; "
            f"of its best {changed['size']:,}, {changed['enter']:,} are new and {changed['stay']:,} stay."
        )
    lines.append("Its proof below is of a seed that the first model helped to choose, so its recall is too high; the AUC above is not.")
    more = {"rate": rate, "auc": auc, "afterwards": later, "changed": changed, "promoted": made["promoted"], "page": made["page"]}
    return {"seed": second.name, **more, "lines": [*lines, *made["lines"]]}


def later_of_wave(workspace: Workspace, name: str, of: date) -> dict[str, Any] | None:
    """What the members of a kept audience did afterwards, against the other candidates of its date; None where the log ends there."""
    tiles = workspace.tiles(workspace.shop())
    seed = open_seed(workspace, tiles, name, datetime.now(UTC).date())
    then = with_bought(workspace.snapshots.get(tiles, of), tiles, spoken_of(seed))
    members = mask_of(read_audience(workspace, name, of).users, then)
    others = candidates_of(named_now(seed, tiles), then) & ~members
    return afterwards(tiles, then, members, others, seed.how, int(seed.how.get("within_days", WITHIN)))


def next_name(name: str) -> str:
    """sample -> sample-2 -> sample-3."""
    stem, _, number = name.rpartition("-")
    return f"{stem}-{int(number) + 1}" if stem and number.isdigit() and len(number) < 4 and int(number) > 1 else f"{name}-2"
