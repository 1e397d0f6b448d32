"""Preview: what would come of an audience. The API and the console's slider both answer with it."""

from __future__ import annotations

from serving.audiences.conditions import hints_of
from serving.audiences.cut import cut
from serving.audiences.holdout import DEFAULT
from serving.audiences.members import split
from serving.audiences.profit import profit, recommended
from serving.audiences.ranking import ranking
from serving.audiences.requests import PreviewRequest
from serving.audiences.schemas import PreviewBody, ProfitBody, measures, power_of
from serving.release import Release


def preview(release: Release, request: PreviewRequest) -> PreviewBody:
    """Size, what is expected, the split into groups, what effect the split can tell from chance, and the profit. Nothing is kept.

    Raises:
        UnknownName, InvalidRule: as `cut`.
    """
    rule = request.rule()
    audience = cut(release, rule)
    shares = (request.holdout.shares() if request.holdout else None) or (DEFAULT if request.holdout is None else {"treatment": 1.0})
    groups = split(release, audience.rows, request.salt, shares)
    bundle = release.bundles.get(rule.task or "")
    pays = request.economics is not None and bundle is not None and (bundle.calibrated or bundle.kind == "effect")
    earned, best = _pays(release, request, audience.size) if pays else (None, None)
    return PreviewBody(
        rule=rule.described(),
        groups=groups,
        power=power_of(audience, groups, request.worth),
        profit=earned,
        recommended=best,
        hints=[f"{hint.at}: {hint.public}" for hint in (hints_of(rule.where, release) if rule.where else [])],
        **measures(audience, bundle.kind if bundle else None),
    )


def _pays(release: Release, request: PreviewRequest, size: int) -> tuple[float | None, ProfitBody | None]:
    """The profit of this cut, where it takes the best of the ranking, and the cut to recommend."""
    rule = request.rule()
    if request.economics is None or rule.task is None:
        return None, None
    found, economics, kind = ranking(release, rule.task, rule.where), request.economics.economics(), release.bundles[rule.task].kind
    begins_at_the_best = rule.band in (None, "high") and rule.max_percentile is None and rule.max_probability is None
    earned = float(profit(found, economics, size, kind)) if begins_at_the_best else None
    return earned, ProfitBody.model_validate(recommended(found, economics, kind))
