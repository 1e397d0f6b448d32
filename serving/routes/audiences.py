from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response

from serving.audiences.conditions import Mistake, hints_of
from serving.audiences.curve import MOST_POINTS, curve
from serving.audiences.cut import bounds, cut
from serving.audiences.holdout import DEFAULT, GROUPS
from serving.audiences.members import LIVE, audience_of, changes, groups_of, save, split
from serving.audiences.profit import Economics, profit_between, recommended
from serving.audiences.ranking import ranking
from serving.audiences.requests import AudienceRequest, PreviewRequest, may_be_called
from serving.audiences.rules import InvalidRule
from serving.audiences.schemas import (
    AudienceBody,
    ChangesBody,
    CurveBody,
    PreviewBody,
    ProfitBody,
    SuggestedBody,
    measures,
    power_of,
)
from serving.audiences.suggested import suggested
from serving.border.once import OncePart, OnceRoute, once
from serving.border.problems import RESPONSES, documented
from serving.jobs import Jobs
from serving.ledger import NameTaken, SavedAudience
from serving.release import Release
from serving.routes.parts import LedgerPart, ScorerPart
from serving.schemas import JobBody, MembersBody

router = APIRouter(tags=["audiences"], responses=RESPONSES, route_class=OnceRoute)

Key = Annotated[str, Path(description="The audience's id or name.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]
Limit = Annotated[int, Query(ge=1, le=10_000)]
Money = Annotated[float | None, Query(ge=0, le=1e9)]


@router.post(
    "/v1/audiences",
    status_code=201,
    summary="Cut an audience",
    responses={200: {"model": AudienceBody}, **documented(409)},
    dependencies=[Depends(once)],
)
def post_audience(request: AudienceRequest, scorer: ScorerPart, ledger: LedgerPart, response: Response) -> AudienceBody:
    """The best N, the best percent, a range, a band, as many as a budget reaches, or everybody who fulfils a condition: how many, and how many
    of them will do it.

    With a `name` the audience is kept and can be asked for by journeys and exports; the same name and rule again is the same audience (200).
    Without a name nothing is kept (200). Users who may not be spoken to are in none.
    """
    if request.name and not may_be_called(request.name, scorer.release):
        raise NameTaken("That is a prediction's name, and journeys would mean the prediction, or a path's. Choose another name.")
    if not request.name:
        response.status_code = 200
        return AudienceBody.of(cut(scorer.release, request.rule()), None, scorer.release)
    saved, new = save(ledger, scorer.release, request.name, request.rule(), request.kind or LIVE, request.shares())
    response.status_code = 201 if new else 200
    saved = ledger.audience(saved.id)
    return AudienceBody.of(audience_of(scorer.release, saved, ledger), saved, scorer.release)


@router.post("/v1/audiences:preview", summary="What would come of an audience")
def post_preview(request: PreviewRequest, scorer: ScorerPart) -> PreviewBody:
    """Size, what is expected with its interval, the split into groups, what effect the split can tell from chance, and the profit. Nothing is
    kept and the ledger is not asked: for a slider, send it again with every move."""
    release, rule = scorer.release, request.rule()
    audience = cut(release, rule)
    shares = (request.holdout.shares() if request.holdout else None) or (DEFAULT if request.holdout is None else {"treatment": 1.0})
    groups = split(release, audience.rows, request.salt, shares)
    bundle = release.bundles.get(rule.task or "")
    pays = request.economics is not None and bundle is not None and (bundle.calibrated or bundle.kind == "effect")
    earned, best = _pays(release, request) if pays else (None, None)
    return PreviewBody(
        rule=rule.described(),
        groups=groups,
        power=power_of(audience, groups, request.worth),
        profit=earned,
        recommended=best,
        hints=[f"{hint.at}: {hint.public}" for hint in (hints_of(rule.where, release) if rule.where else [])],
        **measures(audience, release),
    )


@router.get("/v1/audiences/curve", summary="All cuts of a prediction at once")
def get_curve(
    scorer: ScorerPart,
    task: Annotated[str, Query(description="A prediction, as `/v1/models` lists them.")],
    where: Annotated[str | None, Query(description="A condition as JSON, as a rule has it.", examples=['{"feature": "orders_count", "at_least": 2}'])] = None,
    points: Annotated[int, Query(ge=1, le=MOST_POINTS)] = 100,
    margin: Annotated[Money, Query(description="With it, the profit of each cut and the one to recommend.")] = None,
    coupon_cost: Money = 0.0,
    contact_cost: Money = 0.0,
    budget: Money = None,
) -> CurveBody:
    """Size, expected conversions with their interval, precision, recall, lift and profit from the smallest cut to the whole pool, and a
    histogram of the scores."""
    economics = None if margin is None else Economics(margin, coupon_cost or 0.0, contact_cost or 0.0, budget)
    return CurveBody.model_validate(curve(scorer.release, task, _condition(where), economics, points))


@router.get("/v1/audiences/suggested", summary="Audiences to begin with")
def get_suggested(scorer: ScorerPart) -> list[SuggestedBody]:
    """What growth teams ask for first, each with its rule and what is expected of it; skipped, with the reason, where the shop's data or
    models do not give it."""
    return [
        SuggestedBody(
            name=one.name,
            sentence=one.sentence,
            rule=one.rule.described() if one.rule else None,
            skipped=one.skipped,
            audience=AudienceBody.of(one.audience, None, scorer.release) if one.audience else None,
        )
        for one in suggested(scorer.release)
    ]


@router.get("/v1/audiences", summary="The audiences that are kept")
def get_audiences(scorer: ScorerPart, ledger: LedgerPart) -> list[AudienceBody]:
    """Every named audience as the current release gives it; without those whose prediction or features it has not."""
    release = scorer.release
    found = [(saved, _audience_or_none(release, saved, ledger)) for saved in ledger.audiences()]
    return [AudienceBody.of(audience, saved, release) for saved, audience in found if audience is not None]


@router.get("/v1/audiences/{key}", summary="One audience")
def get_audience(key: Key, scorer: ScorerPart, ledger: LedgerPart) -> AudienceBody:
    """A named audience as the current release gives it; a snapshot with those of its members whom the release knows."""
    saved = ledger.audience(key)
    return AudienceBody.of(audience_of(scorer.release, saved, ledger), saved, scorer.release)


@router.get("/v1/audiences/{key}/members", summary="Who is in it")
def get_members(
    key: Key,
    scorer: ScorerPart,
    ledger: LedgerPart,
    offset: Offset = 0,
    limit: Limit = 1_000,
    group: Annotated[Literal["treatment", "control", "business_as_usual"] | None, Query(description="Of its hold-out. Default: all members.")] = None,
) -> MembersBody:
    """User ids, best first, a page at a time."""
    saved = ledger.audience(key)
    rows, drawn = audience_of(scorer.release, saved, ledger).rows, groups_of(scorer.release, saved)
    if group is not None and drawn:
        rows = rows[drawn[1][rows] == (drawn[0].index(group) if group in drawn[0] else len(GROUPS))]
    elif group not in (None, GROUPS[0]):  # without a hold-out everybody is treated
        rows = rows[:0]
    ids = [user.decode() for user in scorer.release.users[rows[offset : offset + limit]]]
    return MembersBody(release=scorer.release.id, user_ids=ids, next_offset=offset + limit if offset + limit < len(rows) else None)


@router.get("/v1/audiences/{key}/changes", summary="Who came and went")
def get_audience_changes(
    key: Key,
    ledger: LedgerPart,
    of: Annotated[Literal["entries", "exits"], Query(description="Which of them to list.")] = "entries",
    offset: Offset = 0,
    limit: Limit = 1_000,
) -> ChangesBody:
    """Who entered and who left at the last refresh, which follows every publication: for a tool that adds and removes contacts."""
    found = changes(ledger, key)
    listed = getattr(found, of)
    return ChangesBody(
        audience=found.audience,
        release=found.release,
        since=found.since,
        entries=len(found.entries),
        exits=len(found.exits),
        user_ids=listed[offset : offset + limit],
        next_offset=offset + limit if offset + limit < len(listed) else None,
    )


@router.post("/v1/audiences/{key}/exports", status_code=202, summary="Export it to a file", responses=documented(409))
def post_export(key: Key, ledger: LedgerPart, claimed: OncePart, format: Annotated[Literal["csv", "parquet"], Query()] = "csv") -> JobBody:
    """Queue an export; `encore work` writes the file. Ask `/v1/jobs/{id}` how it went."""
    saved = ledger.audience(key)
    request = {"audience": saved.name, "rule": dict(saved.rule), "format": format}
    return JobBody.model_validate(Jobs(ledger).queue("export", request, claimed.effect if claimed else None))


def _pays(release: Release, request: PreviewRequest) -> tuple[float | None, ProfitBody | None]:
    """The profit of this cut, and the cut to recommend."""
    rule = request.rule()
    if request.economics is None or rule.task is None:
        return None, None
    found, economics, kind = ranking(release, rule.task, rule.where), request.economics.economics(), release.bundles[rule.task].kind
    earned = profit_between(found, economics, *bounds(found, rule), kind)
    return earned, ProfitBody.model_validate(recommended(found, economics, kind))


def _audience_or_none(release: Release, saved: SavedAudience, ledger: LedgerPart) -> Any:
    task = saved.rule.get("task")
    if task is not None and task not in (release.members if saved.rule.get("members") else release.scores):
        return None
    try:
        return audience_of(release, saved, ledger)
    except InvalidRule:  # a feature that this release has not
        return None


def _condition(text: str | None) -> dict[str, Any] | None:
    """A condition out of a query string.

    Raises:
        InvalidRule: it is no JSON.
    """
    if text is None:
        return None
    try:
        return json.loads(text)  # type: ignore[no-any-return]
    except (ValueError, RecursionError):
        raise InvalidRule("The condition cannot be read.", (Mistake("where", "is no JSON"),)) from None
