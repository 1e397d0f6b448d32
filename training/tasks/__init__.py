"""All predictions, one file each. A new task is a new file and one line here."""

from __future__ import annotations

from features.errors import UnknownName
from features.shopfile import Shop
from training.task import Task
from training.tasks.churn import CHURN
from training.tasks.coupon_response import COUPON_RESPONSE
from training.tasks.first_order import FIRST_ORDER
from training.tasks.lookalike import LOOKALIKE
from training.tasks.repeat_order import REPEAT_ORDER
from training.tasks.second_order import SECOND_ORDER

TASKS: dict[str, Task] = {task.name: task for task in (FIRST_ORDER, SECOND_ORDER, REPEAT_ORDER, CHURN, COUPON_RESPONSE, LOOKALIKE)}


def tasks_for(shop: Shop, kinds: frozenset[str], names: tuple[str, ...] = ()) -> list[Task]:
    """The tasks to train: those named, else those of the shop file, else all that the log's events permit.

    Raises:
        UnknownName: a name that is no task, here or among the shop file's horizons.
    """
    chosen = dict.fromkeys(names or shop.tasks or (name for name, task in TASKS.items() if kinds.issuperset(task.needs)))
    for name in (*chosen, *shop.horizons):
        if name not in TASKS:
            raise UnknownName("task", name, TASKS)
    return [TASKS[name] for name in chosen]
