"""The jobs of look-alikes: `encore work` runs them where training is installed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from features.errors import GateRefused, MissingExtra, NoUsableData
from features.events import day_number
from features.workspace import Workspace
from serving.jobs import Job
from serving.ledger import Ledger
from serving.orders import Lookalikes

if TYPE_CHECKING:
    from training.lookalike.seed_request import SeedRequest

TOLD = ("task", "version", "size", "entries", "exits", "expected", "page")


def make_lookalike(workspace: Workspace, ledger: Ledger, job: Job) -> dict[str, Any]:
    """Seed, contrast, proof, model, release and audience of a request; returns what a marketer reads first."""
    try:
        from training.lookalike.commands import contrast_of
        from training.lookalike.expand_run import run_expand
        from training.lookalike.seed_report import headlines
        from training.lookalike.seed_request import make_requested
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    name, today = str(job.request["name"]), datetime.now(UTC).date()
    _, report = make_requested(workspace, seed_asked(name, job.request["seed"]), today)
    by = tuple(job.request.get("by", ()))
    cut = contrast_of(workspace, name, today, by=by)["cut"] if by else None  # before minutes of work: a factor may be misspelt
    told = run_expand(workspace, name, {dial: job.request.get(dial) for dial in ("size", "top_percent", "similarity", "base_rate")})
    served = _serve(workspace, ledger, name, told, job.id)
    return {"seed": headlines(report), **served, **({"cut": cut} if cut else {})}


def refresh_lookalike(workspace: Workspace, ledger: Ledger, job: Job) -> dict[str, Any]:
    """The audience of a look-alike made of the users as they are now, by the dial of the last time."""
    try:
        from training.lookalike.expand_run import run_expand
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    name = str(job.request["name"])
    return _serve(workspace, ledger, name, run_expand(workspace, name, {}), str(job.request["made_by"]))


def _serve(workspace: Workspace, ledger: Ledger, name: str, told: Mapping[str, Any], made_by: str) -> dict[str, Any]:
    """Publish an expansion with its audience, if it found anything and is still wanted."""
    from serving.members import rule_of
    from serving.publish import publish
    from training.lookalike.afterwards import sentences as afterwards_in_words
    from training.lookalike.contrast_page import sentences

    if not told["promoted"]:
        raise GateRefused("Its look-alikes are no better than users drawn at random: " + "; ".join(told["lines"]))
    if not Lookalikes(ledger).is_wanted(name, made_by):
        delete_seed_of_service(workspace, name)
        raise NoUsableData("It was deleted while it was made; its seed is deleted too.")
    release = publish(workspace)
    ledger.keep_audience(name, rule_of(told["task"]))
    evidence = told["evidence"]
    return {
        **{key: told[key] for key in TOLD},
        "audience": name,
        "release": release,
        "contrast": sentences(told["contrast"]),
        "proof": evidence["metrics"],
        "afterwards": afterwards_in_words(evidence["afterwards"]) if evidence["afterwards"] else [],
        "decision": told["lines"],
    }


def forget_lookalike(workspace: Workspace, ledger: Ledger, job: Job) -> dict[str, Any]:
    """Delete the seed that the service made, with its ids; one that was never made is as good as deleted."""
    name = str(job.request["name"])
    if Lookalikes(ledger).is_known(name):
        return {"deleted": False, "kept": "It was asked for anew meanwhile, and the new one stays."}
    return delete_seed_of_service(workspace, name)


def delete_seed_of_service(workspace: Workspace, name: str) -> dict[str, Any]:
    """Delete a seed unless it was made on the command line."""
    from training.lookalike.retire import forget_seed
    from training.lookalike.seed_request import seeds_folder
    from training.lookalike.seed_store import SERVICE, maker_of, manifests

    found = manifests(seeds_folder(workspace)).get(name)
    if found is None:
        return {"deleted": False}
    if maker_of(found) != SERVICE:
        return {"deleted": False, "kept": f"A seed of this name was made on the command line and stays. To delete it: encore lookalike forget {name}"}
    forget_seed(workspace, name)
    return {"deleted": True}


def note_export(workspace: Workspace, task: str, as_of: str) -> None:
    """Note that the audience of a date was written to a file: `outcomes` are held against the last one that was."""
    try:
        from training.lookalike.audiences import mark_sent
    except ModuleNotFoundError:
        return  # where training is not installed no seed is kept
    mark_sent(workspace, task.removeprefix("lookalike-"), date.fromisoformat(as_of))


def seed_asked(name: str, asked: Mapping[str, Any]) -> SeedRequest:
    """The seed of a request over HTTP."""
    from training.lookalike.seed_request import SeedRequest
    from training.lookalike.seed_sources import Given
    from training.lookalike.seed_store import KEPT_DAYS, SERVICE

    received, ids = asked["received"], asked["user_ids"]
    days = tuple(day_number(date.fromisoformat(day)) for day in received) if isinstance(received, list) else None
    lists = {key: Given(tuple(asked[key])) if asked[key] is not None else None for key in ("negatives", "exclude")}
    return SeedRequest(
        name=name,
        listed=Given(tuple(ids), days) if ids is not None else None,
        rule=asked["rule"],
        campaign=asked["campaign"],
        bought=tuple(asked["bought"]),
        bought_categories=tuple(asked["bought_category"]),
        within=asked["within"] or (60 if days else None),
        received=date.fromisoformat(received) if isinstance(received, str) else None,
        as_of=date.fromisoformat(asked["as_of"]) if asked["as_of"] else None,
        negatives=lists["negatives"],
        excluded=lists["exclude"],
        defined_by=tuple(asked["defined_by"]),
        candidates=asked["candidates"],
        kept_days=asked.get("keep_days", KEPT_DAYS),
        made_by=SERVICE,
    )
