"""The jobs of look-alikes: `encore work` runs them where training is installed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from features.errors import GateRefused, MissingExtra, NoUsableData, UnknownName
from features.workspace import Workspace
from serving.audience import Rule
from serving.ledger import Ledger


def make_lookalike(workspace: Workspace, ledger: Ledger, request: Mapping[str, Any]) -> dict[str, Any]:
    """Seed, contrast, proof, model, release and audience of a request; returns what a marketer reads first."""
    try:
        from serving.publish import publish
        from training.lookalike.contrast_page import sentences
        from training.lookalike.expand_commands import run_expand
        from training.lookalike.seed_report import headlines
        from training.lookalike.seed_request import SeedRequest, make_requested
        from training.lookalike.seed_sources import Given
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    name, asked = str(request["name"]), request["seed"]
    lists = {key: Given(tuple(asked[key])) if asked[key] is not None else None for key in ("user_ids", "negatives", "exclude")}
    seed = SeedRequest(
        name, lists["user_ids"], asked["rule"], asked["campaign"], tuple(asked["bought"]), tuple(asked["bought_category"]), asked["within"],
        _day(asked["received"]), _day(asked["as_of"]), lists["negatives"], lists["exclude"], tuple(asked["defined_by"]), asked["candidates"],
    )  # fmt: skip
    _, report = make_requested(workspace, seed, datetime.now(UTC).date())
    told = run_expand(workspace, name, {dial: request[dial] for dial in ("size", "top_percent", "similarity")})
    if not told["promoted"]:
        raise GateRefused("Its look-alikes are no better than users drawn at random: " + "; ".join(told["lines"]))
    if not _is_wanted(ledger, request):
        forget_lookalike(workspace, ledger, request)
        raise NoUsableData("It was deleted while it was made; its seed is deleted too.")
    release = publish(workspace)
    ledger.save_audience(name, vars(Rule(told["task"], top_n=told["size"])))
    evidence = told["evidence"]
    return {
        **{key: told[key] for key in ("task", "version", "size", "entries", "exits")},
        "audience": name,
        "release": release,
        "seed": headlines(report),
        "contrast": sentences(told["contrast"]),
        "proof": evidence["metrics"],
        "decision": told["lines"],
        "page": told["page"],
    }


def forget_lookalike(workspace: Workspace, ledger: Ledger, request: Mapping[str, Any]) -> dict[str, Any]:
    """Delete a seed with its ids; a seed that was never made is as good as deleted."""
    from training.lookalike.seed_request import seeds_folder
    from training.lookalike.seed_store import delete_seed, seed_names

    name = str(request["name"])
    known = name in seed_names(seeds_folder(workspace))
    if known:
        delete_seed(seeds_folder(workspace), name)
    return {"deleted": known}


def _is_wanted(ledger: Ledger, request: Mapping[str, Any]) -> bool:
    try:
        return ledger.lookalike(str(request["name"])).request == request
    except UnknownName:
        return False


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None
