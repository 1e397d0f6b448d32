"""judge and keep: a candidate against what serves now; what was found is logged, and who is champion may change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from features.errors import BundleRefused
from features.logs import log
from features.shopfile import Shop
from training.bundle import Bundle
from training.card import grade_of, model_card
from training.drift import Drift, measure_drift
from training.fit import Candidate
from training.gates import Decision, Reason, best_baseline, decide
from training.kinds import KINDS
from training.record import record_candidate
from training.tracking import CHAMPION, Tracking, Version


@dataclass(frozen=True)
class Outcome:
    """What a retrain did for one task: `promoted`, `refused`, `logged`, `already done` or `no usable data`, and why.

    drifted: how many features had drifted from what the champion was trained on; None where there is nothing to compare.
    """

    task: str
    state: str
    reason: str
    run_id: str | None = None
    drifted: int | None = None


@dataclass(frozen=True)
class Judgement:
    """What the gate says of a candidate as of a date.

    champion: the version that it was held against, None for a first one. drift: of the data since that was trained.
    stopped: the shop file says that data which drifted so far change nothing.
    """

    until: date
    decision: Decision
    champion: Version | None
    drift: Drift | None
    stopped: bool

    @property
    def is_model(self) -> bool:
        """Whether a model is champion; a baseline that serves as one is beaten by the rule on baselines."""
        return _is_model(self.champion)

    @property
    def backfill(self) -> bool:
        """Whether the champion is of later data, so that no alias changes."""
        return _newer(self.champion, self.until)


def judge(tracking: Tracking, candidate: Candidate, until: date, shop: Shop) -> Judgement:
    """Hold a candidate against the baselines, the champion, its own calibration and the drift since the champion was trained."""
    asked = candidate.asked
    champion = tracking.with_alias(asked.name, CHAMPION)
    rival = _read(tracking, champion, "evaluated") if champion and _is_model(champion) else None
    if rival and rival.about["horizon_days"] != asked.horizon:
        log.warning("champion answers for another horizon and is not compared", extra={"facts": {"task": asked.name, "days": rival.about["horizon_days"]}})
        rival = None
    decision = decide(candidate.evidence, candidate.test, rival, KINDS[asked.kind], candidate.split.provisional, candidate.indicative, shop.signed_off)
    decision = replace(decision, extrapolation=asked.extrapolation)
    served = _read(tracking, champion, champion.bundle_path) if champion and not _newer(champion, until) else None
    if drift := measure_drift(served, candidate.test.at(candidate.split.test[-1:])) if served else None:
        decision = decision.also(drift.reason(shop.on_drift))
        drift.alert(asked.name)
    if served and served.digest == candidate.served.digest:  # it would take the place of the previous one, the way back
        decision = decision.also(Reason("differs from the champion", False, f"the champion is this very model (digest {served.digest[:12]})"))
    return Judgement(until, decision, champion, drift, drift is not None and drift.far and shop.on_drift == "stop")


def keep(tracking: Tracking, candidate: Candidate, judgement: Judgement, parent: str, key: str, promote: bool) -> Outcome:
    """Log a judged candidate as a run, register it, and let the aliases follow the decision.

    Args:
        parent: the retrain's run. key: digest of the work that this was. promote: False leaves the aliases as they are.
    """
    task, until, decision, drift = candidate.asked.name, judgement.until.isoformat(), judgement.decision, judgement.drift
    tags = _tags(candidate, judgement, key)
    with tracking.run(f"{task} {until}", {**tags, "mlflow.note.content": model_card(candidate, decision, drift)}, parent) as run_id:
        record_candidate(tracking, candidate, decision, run_id, drift)
        metrics = candidate.evidence.metrics["model"]
        measured = {f"encore.{name}": f"{metrics[name]['value']:.4f}" for name in KINDS[candidate.asked.kind].headline}
        made_as = "baseline" if candidate.asked.extrapolation else "model"  # what no window has proven is never called a model
        made = tracking.register(task, run_id, "bundle", {**tags, **measured, "encore.kind": made_as}, decision.text)
        state, why = "logged", "this is a backfill: a champion of later data exists" if judgement.backfill else "promotion was not asked for"
        if promote and not judgement.backfill:
            state, why = _follow(tracking, candidate, judgement, made, tags), decision.text
        return Outcome(task, state, why, run_id, len(drift.drifted) if drift else None)


def _follow(tracking: Tracking, candidate: Candidate, judgement: Judgement, made: Version, tags: dict[str, str]) -> str:
    """Change the aliases as the gate said; `promoted` or `refused`."""
    decision, champion = judgement.decision, judgement.champion
    if decision.promote:
        tracking.promote(made, champion)
    else:
        tracking.mark_challenger(made)
    if champion:
        tracking.note_challenge(champion, made, tags["encore.decision"], decision.text)
    if decision.promote:
        return "promoted"
    if not judgement.is_model and candidate.baselines and not judgement.stopped:  # no champion, or a baseline of older data
        best = next(iter(candidate.baselines)) if candidate.asked.extrapolation else best_baseline(candidate.evidence, KINDS[candidate.asked.kind])
        words = f"The {best} baseline: no model has passed the gate yet."
        tracking.promote(tracking.register(made.task, made.run_id, f"baselines/{best}", {**tags, "encore.kind": "baseline"}, words), champion)
    return "refused"


def _tags(candidate: Candidate, judgement: Judgement, key: str) -> dict[str, str]:
    decision, drift = judgement.decision, judgement.drift
    return {
        "encore.key": key,
        "encore.task": candidate.asked.name,
        "encore.as_of": judgement.until.isoformat(),
        "encore.data": str(candidate.served.about["data"]),
        "encore.decision": "passed" if decision.promote else "refused",
        "encore.reasons": decision.text,
        "encore.grade": grade_of(decision, candidate.evidence.metrics["model"]),
        **({"encore.drift": drift.text} if drift else {}),
    }


def _is_model(champion: Version | None) -> bool:
    return champion is not None and champion.tags.get("encore.kind") == "model"


def _newer(champion: Version | None, until: date) -> bool:
    return champion is not None and champion.tags["encore.as_of"] > until.isoformat()


def _read(tracking: Tracking, champion: Version, path: str) -> Bundle | None:
    """A bundle of the champion's run; one that cannot be read could not be served either, so it holds nobody up."""
    try:
        return tracking.load(champion, path)
    except BundleRefused as error:
        log.warning("champion cannot be read and is not compared", extra={"facts": {"task": champion.task, "reason": str(error)}})
        return None
