"""The page of realised quality: `reports/quality/quality.md` and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.files import write_bytes
from features.money import minor_units
from serving.quality.pictures import by_run, reliability
from serving.quality.standing import Standing, headline
from training.plots import save

LAST = 12  # runs in the table of a prediction

HEAD = """# Realised quality

What was served, judged by what happened, once its time was over. Each row is a score run. *Untreated* are the users whom no campaign
reached between the date of the features and the end of the horizon; campaigns change what people do, so a model is judged on them, and
the treated stand beside them. Intervals are 95 %, over customers. *Promised* is what the scores themselves say of these very users, if each
probability is true; the evidence is what was measured before the model served.
"""


def write_page(folder: Path, standings: Mapping[str, Standing], currency: str) -> Path:
    """Write page and pictures; returns the page's path. currency: the shop's."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [HEAD, *(_section(folder, standing, currency) for standing in standings.values())]
    if not standings:
        parts.append("No score run yet. Score after each publish: `encore score`.\n")
    write_bytes(folder / "quality.md", "\n".join(parts).encode())
    return folder / "quality.md"


def _section(folder: Path, standing: Standing, currency: str) -> str:
    lines = [f"## {standing.task}\n"]
    lines += [f"- **{alert['rule']}**: {alert['text']}. *{alert['advice']}*" for alert in standing.alerts] or ["No rule of alarm speaks."]
    if standing.pending:
        lines.append(f"\nNot over yet: {len(standing.pending)} run(s); the next one on {standing.next_closes}, if the log is complete until then.")
    lines += [f"\nNot judged: features of {run.as_of}: {reason}" for run, reason in standing.unanswered[-3:]]
    if standing.judged:
        lines += ["", *_table(standing, currency), ""]
        save(by_run(standing), folder / f"{standing.task}-runs.png")
        lines.append(f"![expected and realised by run]({standing.task}-runs.png)\n")
        if figure := reliability(standing):
            save(figure, folder / f"{standing.task}-reliability.png")
            lines.append(f"![reliability]({standing.task}-reliability.png)\n")
    if standing.drift:
        lines.append(_drift(standing.drift.facts))
    return "\n".join(lines) + "\n"


def _table(standing: Standing, currency: str) -> list[str]:
    name = headline(standing.judged[-1][0].kind, {})[0]
    lines = [f"| features of | over on | stratum | rows | {name} | promised | lift 10 % | Brier | expected | actual | bias | ECE (floor) |", "|" + "---|" * 12]
    for run, judgement in standing.judged[-LAST:]:
        scale = minor_units(currency) if run.kind == "value" else 1
        again = f" (judgement {judgement.number})" if judgement.number > 1 else ""
        for stratum in ("untreated", "treated", "all"):
            told = judgement.facts.get(stratum)
            if told and told["rows"]:
                metrics, (_, seen, promise) = told.get("metrics") or {}, headline(run.kind, told)
                cells = [_told(seen), _told(promise), _told(metrics.get("lift_10"), 2), _told(metrics.get("brier"))]
                cells += [_count(told.get("expected"), run.kind, scale), _count({"value": told.get("actual"), "low": None}, run.kind, scale)]
                cells += [_told(metrics.get("mean_bias")), f"{_told(metrics.get('ece'))} ({_told(metrics.get('ece_floor'))})" if "ece" in metrics else "-"]
                lines.append(f"| {run.as_of} | {run.closes}{again} | {stratum} | {told['rows']:,} | " + " | ".join(cells) + " |")
                again = ""
    return lines


def _drift(facts: Mapping[str, Any]) -> str:
    if "unknown" in facts:
        return f"Drift of what is in service: not known ({facts['unknown']})."
    score = facts["score"]
    worst = ", ".join(f"`{one['name']}` {one['psi']:.2f}" for one in facts["features"][:5])
    said = f"the score {score['word']} ({score['psi']:.3f}); " if score else ""
    return f"Drift of what is in service against training (PSI; below .1 stable, above .25 drifted): {said}most moved: {worst}."


def _told(interval: Mapping[str, Any] | None, digits: int = 3) -> str:
    if not interval or interval["value"] is None:
        return "-"
    ends = "" if interval["low"] is None or interval["high"] is None else f" [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]"
    return f"{interval['value']:.{digits}f}{ends}"


def _count(interval: Mapping[str, Any] | None, kind: str, scale: int) -> str:
    if not interval or interval["value"] is None:
        return "-"
    form = ".4f" if kind == "effect" else ",.0f"
    ends = "" if interval["low"] is None else f" [{interval['low'] / scale:{form}}, {interval['high'] / scale:{form}}]"
    return f"{interval['value'] / scale:{form}}{ends}"
