"""All predictions, one file each. A new task is a new file and one line here."""

from __future__ import annotations

from collections import Counter

from features.errors import InvalidShopFile, UnknownName
from features.shopfile import Shop
from training.goals import task_of
from training.task import Task
from training.tasks.churn import CHURN
from training.tasks.coupon_response import COUPON_RESPONSE
from training.tasks.discount_affinity import DISCOUNT_AFFINITY
from training.tasks.first_order import FIRST_ORDER
from training.tasks.lookalike import LOOKALIKE
from training.tasks.next_order import NEXT_ORDER
from training.tasks.reactivation import REACTIVATION
from training.tasks.repeat_order import REPEAT_ORDER
from training.tasks.second_order import SECOND_ORDER
from training.tasks.tier_upgrade import TIER_UPGRADE
from training.tasks.uplift import UPLIFT
from training.tasks.value import VALUE
from training.tasks.value_365 import VALUE_365

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        FIRST_ORDER,
        SECOND_ORDER,
        REPEAT_ORDER,
        CHURN,
        REACTIVATION,
        NEXT_ORDER,
        VALUE,
        VALUE_365,
        TIER_UPGRADE,
        COUPON_RESPONSE,
        DISCOUNT_AFFINITY,
        UPLIFT,
        LOOKALIKE,
    )
}


def all_tasks(shop: Shop) -> dict[str, Task]:
    """Encore's predictions and the shop's own goals, by name.

    Raises:
        InvalidShopFile: a goal has the name of another prediction.
    """
    goals = [task_of(goal) for goal in shop.goals]
    taken = [name for name, count in Counter([*TASKS, *(goal.name for goal in goals)]).items() if count > 1]
    if taken:
        raise InvalidShopFile(str(shop.path), [f"the goal '{name}' has the name of another prediction; give it a name of its own" for name in taken])
    return TASKS | {goal.name: goal for goal in goals}


def tasks_for(shop: Shop, kinds: frozenset[str], names: tuple[str, ...] = ()) -> list[Task]:
    """The tasks to train: those named, else those of the shop file, else all that the log's events permit.

    Raises:
        UnknownName: a name that is no task, here or among the shop file's horizons.
    """
    known = all_tasks(shop)
    chosen = dict.fromkeys(names or shop.tasks or (name for name, task in known.items() if kinds.issuperset(task.needs)))
    for name in (*chosen, *shop.horizons, *shop.windows):
        if name not in known:
            raise UnknownName("task", name, known)
    return [known[name] for name in chosen]
