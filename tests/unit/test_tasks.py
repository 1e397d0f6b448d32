"""Every file is in its list, and every task makes sense to the reader and to the catalogue."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from string import Formatter
from types import ModuleType

import pytest

import features.sources
import features.views
import training.tasks
from features.cycle import RepurchaseCycle
from features.errors import UnknownName
from features.shopfile import Shop
from features.snapshot import catalogue
from features.sources import SOURCES
from features.view import FeatureView, events_behind
from features.views import all_views
from features.vocabulary import EVENTS
from training.task import Task
from training.tasks import TASKS, tasks_for

SHOP = Shop("Test shop", "UTC", "EUR", attributes=("age", "growth_value"), tiers=(0, 1000))
FEATURES = [feature.name for feature in catalogue(SHOP, frozenset(EVENTS))]
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def modules(package: ModuleType) -> dict[str, ModuleType]:
    return {found.name: import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)}


def test_every_task_file_is_listed_under_its_name():
    declared = {name: [value for value in vars(module).values() if isinstance(value, Task)] for name, module in modules(training.tasks).items()}
    assert declared == {name: [TASKS[name]] for name in declared}
    assert set(declared) == set(TASKS)
    assert {task.name for task in TASKS.values()} == set(TASKS)


def test_every_view_file_is_listed_under_its_name():
    listed = {view.name: view for view in all_views(SHOP)}
    assert set(modules(features.views)) == set(listed)
    for name, module in modules(features.views).items():
        for view in (value for value in vars(module).values() if isinstance(value, FeatureView)):
            assert listed[name] is view


def test_every_source_file_is_listed_under_its_name():
    readers = {name: module.read for name, module in modules(features.sources).items() if hasattr(module, "read")}
    assert readers == SOURCES


def test_no_two_features_share_a_name():
    assert len(set(FEATURES)) == len(FEATURES)


@every_task
def test_a_task_has_its_words(task):
    assert task.question.endswith("?")
    assert task.question[0].isupper()
    fields = {field for text in (task.question, task.eligible_in_words) for _, field, _, _ in Formatter().parse(text) if field is not None}
    assert fields <= {"horizon", "window"}
    words = task.at(SHOP, RepurchaseCycle(None, 0)).describe()
    assert words["task"] == task.name
    assert not [value for value in words.values() if isinstance(value, str) and ("{" in value or not value)]


@every_task
def test_a_task_asks_about_features_and_events_that_exist(task):
    assert task.rule in FEATURES
    assert set(task.rfm) <= set(FEATURES)
    assert set(task.needs) <= set(EVENTS)
    assert task.trigger is None or task.trigger in {column for column, _ in EVENTS.values()}
    for beginning in task.left_out:
        assert [name for name in FEATURES if name.startswith(beginning)], beginning


@every_task
def test_a_task_has_either_an_outcome_or_a_seed(task):
    assert (task.outcome is None) != (task.seed is None)
    assert task.seed is None or not (task.absence or task.trigger)


@every_task
def test_what_a_task_needs_is_enough_for_its_baselines(task):
    names = {feature.name for feature in catalogue(SHOP, frozenset(task.needs))}
    assert {task.rule, *task.rfm} & names


@every_task
@pytest.mark.parametrize("days", [None, 0.2, 10, 500])
def test_horizons_are_days_whatever_the_cycle(task, days):
    assert 1 <= task.at(SHOP, RepurchaseCycle(days, 1000)).horizon <= 365


@every_task
def test_the_shop_file_may_set_the_horizon(task):
    assert task.at(Shop("Test shop", "UTC", "EUR", horizons={task.name: 5}), RepurchaseCycle(10, 1000)).horizon == 5


def test_tasks_are_those_named_else_those_of_the_shop_file_else_those_the_events_permit():
    def names(shop: Shop, kinds: set[str], *named: str) -> list[str]:
        return [task.name for task in tasks_for(shop, frozenset(kinds), named)]

    chosen = Shop("Test shop", "UTC", "EUR", tasks=("churn", "second_order"))
    assert names(SHOP, {"order"}) == [
        "second_order", "repeat_order", "churn", "reactivation", "next_order", "value", "value_365", "discount_affinity",
    ]  # fmt: skip
    assert {"first_order", "lookalike"} <= set(names(SHOP, {"order", "product_view", "coupon_redeemed"}))
    assert names(chosen, {"order"}) == ["churn", "second_order"]
    assert names(chosen, {"order"}, "repeat_order") == ["repeat_order"]


def test_an_unknown_task_is_met_with_the_nearest_one():
    with pytest.raises(UnknownName, match=r"Unknown task 'repeat_oder'\. Did you mean 'repeat_order'"):
        tasks_for(SHOP, frozenset({"order"}), ("repeat_oder",))


def test_what_makes_a_seed_does_not_describe_it() -> None:
    shop = Shop("Test shop", "UTC", "EUR")
    made_of_redemptions = [
        feature.name for feature in catalogue(shop, frozenset(EVENTS)) if any("coupon_redeemed" in events_behind(part, shop.interest) for part in feature.parts)
    ]
    assert len(made_of_redemptions) > 5
    assert [name for name in made_of_redemptions if not name.startswith(TASKS["lookalike"].left_out)] == []
