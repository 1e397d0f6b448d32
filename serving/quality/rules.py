"""The written rules of alarm: what was seen against what was expected then, whether that is surely worse, and what to do.

A rule speaks only where whole intervals lie apart, and only with 30 of either outcome in the stratum that it judges. Where too few were
untreated, everybody is judged, and the sentence says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from serving.quality.standing import judged_stratum
from training.drift import USUAL, Drift
from training.evaluate import Interval
from training.gates import ECE_ABOVE_FLOOR, IN_WORDS, LARGEST_BIAS, LARGEST_COVERAGE_ERROR, LARGEST_LEVEL_ERROR
from training.intervals import share
from training.kinds import KINDS

LABEL_MOVED = 0.25  # of the base rate that the model learned from
TREATMENT_MOVED = 0.10  # of everybody who is asked about

ADVICE = {
    "ranking": "Compare the features of this run with those of training (`encore quality` lists what drifted), look whether a source stopped or "
    "changed its ids, then: encore retrain, or encore rollback to the release before.",
    "level": "More or fewer did it than was promised: do not use expected numbers for budgets until a model that knows this period serves: encore retrain.",
    "calibration": "Ranks still hold, probabilities do not: cut audiences by percent, not by probability, until: encore retrain.",
    "window": "The served windows hold fewer events than they say: widen what you plan by them until: encore retrain.",
    "feature drift": "Look at the sources of the features named: a stopped feed or a changed unit looks like this. If the values are true: encore retrain.",
    "score drift": "The model says other things of people than it did in training. Look at the drifted features first; if they are true: encore retrain.",
    "label drift": "The base rate moved. Ranks may hold; expected numbers and thresholds on probability do not: encore retrain once windows of the "
    "new level are over.",
    "treatment drift": "Campaigns reach another share of these users than when the model learned: read its quality on the untreated, hold out a share of each "
    "campaign, and retrain once windows of the new practice are over.",
}


@dataclass(frozen=True)
class Alert:
    """A rule that speaks: what was seen against what, and what to do."""

    rule: str
    text: str

    @property
    def advice(self) -> str:
        return ADVICE[self.rule]

    def describe(self) -> dict[str, str]:
        return {**asdict(self), "advice": self.advice}


def below_expectation(kind: str, facts: Mapping[str, Any], then: Mapping[str, Interval]) -> list[Alert]:
    """What is surely worse than it was expected to be.

    Args:
        facts: stratum -> what `measure.measured` says. then: metric -> what was measured before the model became champion.
    """
    if kind == "effect":
        return _effect(facts, then)
    name = judged_stratum(facts)
    if name is None:
        return []
    found, who = facts[name], f"{facts[name]['rows']:,} {'untreated' if name == 'untreated' else 'users, treated ones among them'}"
    alerts = _ranking(kind, found, then, who)
    if kind == "value" and name != "all" and not _ranking(kind, facts["all"], then, who):
        alerts = []  # the untreated are another choice of customers than the evidence was about, and amounts promise no Gini of their own
    if kind in ("probability", "date"):
        # Campaigns move the level of everybody, and a model has learned among campaigns: both have to say so.
        together = [facts[stratum]["metrics"] for stratum in {name, "all"} if "metrics" in facts[stratum]]
        alerts += _level(found, together, who) + ([] if alerts else _calibration(found, together, who))  # ranks that fail say it all
    if kind == "date" and "coverage" in found["metrics"]:
        alerts += _window(found["metrics"], who)
    if kind == "value":
        ratio = found["metrics"]["sum_ratio"]
        if _apart(ratio, 1 / (1 + LARGEST_LEVEL_ERROR), 1 + LARGEST_LEVEL_ERROR):
            alerts.append(Alert("level", f"predicted spend is {_told(ratio)} times what {who} spent; at most {LARGEST_LEVEL_ERROR:.0%} off was expected"))
    return alerts


def _ranking(kind: str, found: Mapping[str, Any], then: Mapping[str, Interval], who: str) -> list[Alert]:
    metric = "auc" if kind in ("date", "rank") else KINDS[kind].main
    seen = found["metrics"][metric]
    words = IN_WORDS.get(metric, metric)
    if kind == "rank":  # its evidence is about hidden members of the seed, not about who joined it later
        fails = seen["high"] is not None and seen["high"] < 0.5
        return [Alert("ranking", f"{words} {_told(seen)} among {who}: worse than chance")] if fails else []
    expected = {"the scores themselves promised": found.get("promised", {}).get(metric), "its evidence had": then.get(metric)}
    known = {words: interval for words, interval in expected.items() if interval and interval["low"] is not None}
    if not known or seen["high"] is None or not all(seen["high"] < interval["low"] for interval in known.values()):
        return []
    against = ", ".join(f"{words} {_told(interval)}" for words, interval in known.items())
    return [Alert("ranking", f"{IN_WORDS.get(metric, metric)} {_told(seen)} among {who}; {against}")]


def _level(found: Mapping[str, Any], together: list[Any], who: str) -> list[Alert]:
    signs = {_side(metrics["mean_bias"], LARGEST_BIAS) for metrics in together}
    if len(signs) != 1 or signs == {0}:
        return []
    expected, bias = found["expected"], found["metrics"]["mean_bias"]
    return [
        Alert(
            "level",
            f"{found['actual']:,.0f} did it, {expected['value']:,.0f} [{expected['low']:,.0f}, {expected['high']:,.0f}] were expected of {who}; "
            f"mean bias {_told(bias)}, at most {LARGEST_BIAS} either way was",
        )
    ]


def _calibration(found: Mapping[str, Any], together: list[Any], who: str) -> list[Alert]:
    # A resample is noisier than the data, so the interval of the error leans upwards: its lower end alone would cry wolf.
    bad = [m["ece"]["value"] > m["ece_floor"]["high"] + ECE_ABOVE_FLOOR and (m["ece"]["low"] or 0.0) > m["ece_floor"]["high"] for m in together]
    ece, floor = found["metrics"]["ece"], found["metrics"]["ece_floor"]
    text = f"calibration error {_told(ece)} among {who}; sampling alone gives {_told(floor)}, and {ECE_ABOVE_FLOOR} more is accepted"
    return [Alert("calibration", text)] if all(bad) else []


def _window(metrics: Mapping[str, Interval], who: str) -> list[Alert]:
    seen, nominal = metrics["coverage"], metrics["nominal_coverage"]["value"] or 0.0
    if seen["high"] is None or seen["high"] >= nominal - LARGEST_COVERAGE_ERROR:
        return []
    return [Alert("window", f"windows held {_told(seen)} of the events of {who}; {nominal:.2f} was promised")]


def _effect(facts: Mapping[str, Any], then: Mapping[str, Interval]) -> list[Alert]:
    seen, before = facts["all"].get("metrics", {}).get("qini"), then.get("qini")
    if not seen or not before or seen["high"] is None or before["low"] is None or seen["high"] >= before["low"]:
        return []
    return [Alert("ranking", f"Qini {_told(seen)} in the lot; its evidence had {_told(before)}")]


# --- drift --------------------------------------------------------------------------------------------------------------------


def drifted(drift: Drift | None) -> list[Alert]:
    """Whether what is in service lies far from what its model was trained on (PSI), by the rules of `training.drift`."""
    if drift is None:
        return []
    alerts = []
    if len(drift.drifted) > USUAL * len(drift.features):
        alerts.append(Alert("feature drift", f"{drift.text}; at most {USUAL:.0%} of the features do on true data"))
    if drift.score is not None and drift.score.word == "drifted":
        alerts.append(Alert("score drift", f"PSI of the score is {drift.score.psi:.2f}; above .25 it has drifted"))
    return alerts


def label_drift(kind: str, facts: Mapping[str, Any], learned: Mapping[str, Any]) -> tuple[Interval | None, list[Alert]]:
    """The rate among everybody asked, against the base rate that the model learned from."""
    everybody, then = facts["all"], learned.get("base_rate")
    if not everybody["rows"] or then is None or kind not in ("probability", "value"):  # a date's base rate is of its whole horizon
        return None, []
    now = share(everybody["positives"], everybody["customers"], everybody["positives"] / everybody["rows"])
    moved = _apart(now, then * (1 - LABEL_MOVED), then * (1 + LABEL_MOVED))
    text = f"{_told(now)} of {everybody['rows']:,} did it; {then:.3f} did when the model learned, and {LABEL_MOVED:.0%} of that either way is accepted"
    return now, [Alert("label drift", text)] if moved else []


def treatment_drift(facts: Mapping[str, Any], then: Interval | None) -> tuple[Interval | None, list[Alert]]:
    """The share whom campaigns reached in the horizon, against that among those asked about when the model last learned."""
    everybody, treated = facts["all"], facts.get("treated", {"rows": 0})
    if not everybody["rows"] or then is None or then["value"] is None:
        return None, []
    now = share(treated["rows"], everybody["rows"])
    off = abs((now["value"] or 0.0) - then["value"]) > TREATMENT_MOVED and (_above(now, then) or _above(then, now))
    text = f"campaigns reached {_told(now)} of {everybody['rows']:,}; {_told(then)} when the model last learned, and {TREATMENT_MOVED} either way is accepted"
    return now, [Alert("treatment drift", text)] if off else []


def _apart(seen: Interval, low: float, high: float) -> bool:
    return (seen["high"] is not None and seen["high"] < low) or (seen["low"] is not None and seen["low"] > high)


def _above(one: Interval, other: Interval) -> bool:
    return one["low"] is not None and other["high"] is not None and one["low"] > other["high"]


def _side(seen: Interval, limit: float) -> int:
    """1 or -1 where a whole interval lies beyond a limit on that side, else 0."""
    low, high = seen["low"], seen["high"]
    return 1 if low is not None and low > limit else -1 if high is not None and high < -limit else 0


def _told(interval: Interval) -> str:
    value, low, high = interval["value"], interval["low"], interval["high"]
    return "unknown" if value is None else f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
