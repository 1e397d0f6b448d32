"""Goals of the shop's own: what encore.toml may say, whom a goal is about, and what counts as having done it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from features.cycle import RepurchaseCycle
from features.errors import InvalidShopFile, UnknownName
from features.events import EventLog
from features.shopfile import Shop, read_shop
from features.sources.batch import Batch
from features.store import SnapshotStore
from features.tiles import Tiles, open_tiles
from features.vocabulary import EVENT_SCHEMA, PRODUCT_SCHEMA
from training.examples import make_examples
from training.goals import task_of
from training.outcomes import rose
from training.tasks import all_tasks, tasks_for

HEAD = 'name = "Shop"\nzone = "UTC"\ncurrency = "EUR"\n'
GOAL = {"name": "good_rating", "event": "rating", "where": {"level": {"at_least": 4}}, "horizon": 30, "include": [{"feature": "orders_count", "at_least": 1}]}
CUT = date(2024, 3, 1)
CYCLE = RepurchaseCycle(None, 0)


def event(number: int, user: str, kind: str, day: str, **more: object) -> dict[str, object]:
    moment = pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=12)
    return {"event_id": f"event-{number}", "user_id": user, "event": kind, "occurred_at": moment, "known_at": moment, **more}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Tiles:
    """Ann buys and rates 5 stars, Bob buys and rates 3, Cem only looks around, Dee rated before the cutoff and takes it back later."""
    rows = [
        *(event(number, user, "order", "2024-02-01", order_id=f"o{number}", value_cents=1000) for number, user in enumerate(("ann", "bob", "dee"))),
        event(10, "cem", "page_view", "2024-02-20"),
        event(11, "ann", "rating", "2024-03-05", level=5, product_id="soap", channel="app"),
        event(12, "bob", "rating", "2024-03-06", level=3, product_id="soap"),
        event(13, "dee", "rating", "2024-02-27", level=5, product_id="soap"),
        event(14, "ann", "order", "2024-03-09", order_id="o9", value_cents=500),
        event(15, "ann", "order_item", "2024-03-09", order_id="o9", product_id="soap", quantity=1, value_cents=500),
        event(20, "ann", "tier_changed", "2024-01-10", level=1),
        event(21, "ann", "tier_changed", "2024-03-10", level=2),
        event(22, "bob", "tier_changed", "2024-01-10", level=3),
        event(23, "bob", "tier_changed", "2024-03-10", level=2),
        event(24, "dee", "tier_changed", "2024-03-10", level=1),
        event(99, "cem", "page_view", "2024-05-01"),
    ]
    events = pa.Table.from_pylist([{name: row.get(name) for name in EVENT_SCHEMA.names} for row in rows], schema=EVENT_SCHEMA)
    products = pa.Table.from_pylist([{"product_id": "soap", "category": "care", "brand": "own", "department": "bath"}], schema=PRODUCT_SCHEMA)
    log = EventLog(tmp_path_factory.mktemp("log"), "UTC", "EUR")
    log.append(Batch("hand-made", events, date(2024, 5, 2), products))
    return open_tiles(log, Shop("Shop", "UTC", "EUR"), tmp_path_factory.mktemp("tiles"))


def labels(goal: dict[str, object], tiles: Tiles, folder: Path) -> dict[str, int]:
    asked = task_of(goal).at(tiles.shop, CYCLE)
    examples = make_examples(asked, [CUT], date(2024, 1, 1), tiles, SnapshotStore(folder))
    return dict(zip(examples.users.tolist(), examples.y.tolist(), strict=True))


def test_a_goal_counts_the_events_whose_properties_fit(tiles, tmp_path):
    assert labels(GOAL, tiles, tmp_path) == {"ann": 1, "bob": 0, "dee": 0}
    assert labels({**GOAL, "where": {}}, tiles, tmp_path) == {"ann": 1, "bob": 1, "dee": 0}
    assert labels({**GOAL, "where": {"channel": "app"}}, tiles, tmp_path) == {"ann": 1, "bob": 0, "dee": 0}
    assert labels({**GOAL, "where": {"level": {"at_most": 4}}}, tiles, tmp_path) == {"ann": 0, "bob": 1, "dee": 0}
    assert labels({**GOAL, "where": {"level": {"at_least": 4}}, "absent": True}, tiles, tmp_path) == {"ann": 0, "bob": 1, "dee": 1}


def test_a_goal_may_ask_for_the_category_or_brand_of_a_product(tiles, tmp_path):
    goal = {**GOAL, "event": "order_item", "where": {"brand": ["own", "other"]}}
    assert labels(goal, tiles, tmp_path) == {"ann": 1, "bob": 0, "dee": 0}
    assert labels({**goal, "where": {"category": "tools"}}, tiles, tmp_path) == {"ann": 0, "bob": 0, "dee": 0}


def test_rules_say_whom_it_is_about(tiles, tmp_path):
    assert set(labels({**GOAL, "include": []}, tiles, tmp_path)) == {"ann", "bob", "cem", "dee"}
    assert set(labels({**GOAL, "exclude": [{"feature": "membership_tier", "known": True}]}, tiles, tmp_path)) == {"dee"}
    assert set(labels({**GOAL, "include": [{"feature": "membership_tier", "is": [1, 2]}]}, tiles, tmp_path)) == {"ann"}
    assert set(labels({**GOAL, "include": [{"feature": "orders_count", "at_least": 0, "at_most": 0}]}, tiles, tmp_path)) == {"cem"}


def test_a_rule_about_an_unknown_feature_names_the_nearest(tiles, tmp_path):
    with pytest.raises(UnknownName, match=r"Unknown feature 'orders_cuont'\. Did you mean 'orders_count'"):
        labels({**GOAL, "include": [{"feature": "orders_cuont", "at_least": 1}]}, tiles, tmp_path)


def test_only_a_higher_level_than_before_is_an_upgrade(tiles):
    # Dee joins at level 1: that is no rise from a level she had.
    assert rose(tiles.between(CUT, date(2024, 4, 1))).tolist() == ["ann"]
    assert rose(tiles.between(date(2024, 1, 1), CUT)).tolist() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "Good rating"\nevent = "rating"\nhorizon = 30', "\"name\" is 'Good rating'"),
        ('name = "g1"\nevent = "ratting"\nhorizon = 30', "unknown event 'ratting'. Did you mean 'rating'"),
        ('name = "g1"\nevent = "rating"\nhorizon = 400', '"horizon" is 400; it must be 1 to 365 days'),
        ('name = "g1"\nevent = "rating"\nhorizon = 30\nwhere = { level = 4 }', '"level" is a number: say { at_least = 4 }'),
        ('name = "g1"\nevent = "rating"\nhorizon = 30\nwhere = { chanel = "app" }', "unknown property 'chanel'. Did you mean 'channel'"),
        ('name = "g1"\nevent = "rating"\nhorizon = 30\ninclude = [{ feature = "g1", at_least = 1 }]', "speaks of the outcome (g1)"),
        ('name = "g1"\nevent = "rating"\nhorizon = 30\nexclude = [{ event = "rating", at_least = 1 }]', "speaks of the outcome (rating)"),
        ('name = "g1"\nevent = "rating"\nhorizon = 30\ninclude = [{ feature = "orders_count" }]', "the condition on orders_count says nothing"),
        ('name = "g1"\nevent = "rating"\nhorizon = 30\ninclud = []', "unknown setting 'includ'. Did you mean 'include'"),
    ],
)
def test_what_is_wrong_with_a_goal_is_said_when_the_file_is_read(tmp_path, text, said):
    (tmp_path / "encore.toml").write_text(f"{HEAD}[[goals]]\n{text}\n")
    with pytest.raises(InvalidShopFile) as refused:
        read_shop(tmp_path / "encore.toml")
    assert said in str(refused.value)
    assert "goal 1" in str(refused.value)


def test_a_goal_is_a_task_like_any_other(tmp_path):
    (tmp_path / "encore.toml").write_text(
        f'{HEAD}[[goals]]\nname = "good_rating"\nevent = "rating"\nhorizon = 30\nwhere = {{ level = {{ at_least = 4 }} }}\n[horizons]\ngood_rating = 14\n'
    )
    shop = read_shop(tmp_path / "encore.toml")
    (task,) = tasks_for(shop, frozenset({"order", "rating"}), ("good_rating",))
    assert task.at(shop, CYCLE).describe()["question"] == "Will this happen within 14 days: a rating was given; level is the stars?"
    assert "good_rating" in {task.name for task in tasks_for(shop, frozenset({"order", "rating"}))}
    assert "good_rating" not in {task.name for task in tasks_for(shop, frozenset({"order"}))}


def test_a_goal_may_not_take_the_name_of_another_prediction():
    with pytest.raises(InvalidShopFile, match="the goal 'churn' has the name of another prediction"):
        all_tasks(Shop("Shop", "UTC", "EUR", goals=({**GOAL, "name": "churn"},)))
