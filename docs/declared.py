"""Parts of pages that the code declares: what a prediction is; and which settings there are, for the test of their page."""

from __future__ import annotations

import re
from pathlib import Path

from features.cycle import RepurchaseCycle
from features.shopfile import Shop
from training.baselines import BASELINES
from training.kinds import KINDS
from training.task import AskedTask, Task
from training.tasks import TASKS

PROJECT = Path(__file__).parents[1]
IN_WORDS = {
    "probability": "a calibrated probability",
    "rank": "a rank, no probability",
    "value": "an amount of money",
    "date": "a median and a window of days",
    "effect": "what a campaign adds to a probability",
}
SETTING = re.compile(r"ENCORE_[A-Z_]*[A-Z]\b")


def prediction(name: str) -> str:
    """What a task declares, as a table."""
    task = TASKS[name]
    asked = task.at(Shop("any", "UTC", "EUR"), _cycle(None))
    kind = KINDS[asked.kind]
    rows = {
        "question": task.question.format(horizon="*H*", window="*D*"),
        "asked about": task.eligible_in_words.format(horizon="*H*", window="*D*"),
        "answer": IN_WORDS[asked.kind],
        "*H*": _days(task),
        "*D*": _window(task),
        "events it needs": ", ".join(f"`{kind}`" for kind in task.needs),
        "cutoffs": f"the days of its trigger, `{task.trigger}`" if task.trigger else "a regular calendar",
        "has to beat": ", ".join(_baselines(asked)),
        "judged by": f"`{kind.main}`; shown: {', '.join(f'`{metric}`' for metric in kind.shown)}",
        "features kept from it": ", ".join(f"`{start}*`" for start in task.left_out),
        "defined in": f"`training/tasks/{name}.py`",
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {what} | {said} |" for what, said in rows.items() if said)


def settings_in_code() -> set[str]:
    """Every setting of the environment that the code reads."""
    files = [PROJECT / "encore.py", *(path for package in ("features", "training", "serving") for path in (PROJECT / package).rglob("*.py"))]
    return {name for path in files for name in SETTING.findall(path.read_text(encoding="utf-8"))}


def _baselines(asked: AskedTask) -> list[str]:
    """In words; of those that stand in BASELINES the ones with columns to see."""
    if asked.kind == "effect":
        return ["a random choice", "two response models"]
    named = asked.describe()["baselines"]
    kept = [name for name, (columns, _) in BASELINES[asked.kind](asked).items() if columns and (asked.task.bgnbd or not name.startswith("bgnbd"))]
    return [named[name] for name in kept]


def _cycle(days: float | None) -> RepurchaseCycle:
    return RepurchaseCycle(days, 0)


def _days(task: Task) -> str:
    unknown, known = task.horizon(_cycle(None)), task.horizon(_cycle(20.0))
    said = f"{unknown} days" if unknown == known else f"{unknown} days; {known} where the shop's repurchase cycle is 20 days"
    return f"{said}; else `[horizons] {task.name}`"


def _window(task: Task) -> str:
    if "{window}" not in task.question + task.eligible_in_words:
        return ""
    return f"{task.window(_cycle(None))} days; {task.window(_cycle(20.0))} where the cycle is 20 days; else `[windows] {task.name}`"
