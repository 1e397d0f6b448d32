"""The page of one user, over a release that `publish` made: its days against the rows of the log, its sentences against the scores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from features.calendar import day_number, day_of
from features.engine import Engine
from features.workspace import Workspace
from serving.console import person
from serving.console.formats import Formats
from serving.console.told import Told
from serving.console.words import Words
from serving.release import load_release
from serving.scorer import Scorer

WORDS, FORMATS = Words("en"), Formats("en", "EUR", "UTC")
LOOKED_AT = {"order", "product_view", "search", "cart_add"}  # by features of any model; a history keeps no more


@pytest.fixture(scope="module")
def told(small_workspace: Workspace) -> Told:
    root = small_workspace.releases
    return Told(root, Scorer(load_release(next(root.glob("2*"))), timedelta(days=1)))


@pytest.fixture(scope="module")
def by_hand(small_workspace: Workspace, told: Told) -> dict[str, dict[int, dict[str, list[int]]]]:
    """user -> day -> event -> how often, cents; from the rows that had happened and were known before the release's date."""
    rows = Engine().sql("SELECT user_id, event, day, known_day, sign, value_cents FROM log", log=small_workspace.tiles(small_workspace.shop()).log.parts)
    end = day_number(date.fromisoformat(told.manifest["as_of"]))
    found: dict[str, dict[int, dict[str, list[int]]]] = {}
    for row in rows.to_pylist():
        if row["day"] < end and row["known_day"] < end:
            sums = found.setdefault(row["user_id"], {}).setdefault(row["day"], {}).setdefault(row["event"], [0, 0])
            sums[0] += row["sign"]
            sums[1] += row["sign"] * (row["value_cents"] or 0)
    return found


def test_the_days_of_a_user_are_those_of_the_log(told: Told, by_hand: dict[str, dict[int, dict[str, list[int]]]]) -> None:
    histories = told.release.histories
    assert histories is not None  # `publish` keeps them
    orders, compared = 0, 0
    for user in told.release.users:
        recent = {day: events for day, events in by_hand[user.decode()].items() if histories.day - day <= 7 * person.WEEKS}
        counts = {day: {event: events[event][0] for event in LOOKED_AT & events.keys() if events[event][0]} for day, events in recent.items()}
        wanted = {FORMATS.day(day_of(day)): (told_of, recent[day]["order"][1] if "order" in told_of else None) for day, told_of in counts.items() if told_of}
        history = person.page(told, user.decode(), WORDS, FORMATS)["history"]
        days = [*history["days"], *history["rest"]]
        listed = [(day["day"], {event: times for event, times in day["told"] if event in LOOKED_AT}, day["money"]) for day in days]
        shown = {day: (events, money) for day, events, money in listed if events}
        assert len(listed) == person.MOST_DAYS or wanted.keys() <= shown.keys()
        for day in wanted.keys() & shown.keys():
            assert shown[day] == wanted[day], (user, day)
        bought = sum(int(row[1]) for row in history["weeks"]["rows"]) if history["weeks"] else 0
        assert bought == sum(events.get("order", 0) for events in counts.values())
        orders += bought
        compared += len(wanted.keys() & shown.keys())
    assert orders > 500
    assert compared > 5000


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({}, ""),
        ({"earliest_days": 0.6, "median_days": 3.9, "latest_days": None}, "Likely days: 4 Feb 2025 to after 6 Mar 2025; middle: 7 Feb 2025"),
        ({"probability": 0.5, "cents_if_any": 2050.0}, "50.0% that there is an order; then €20.50"),
        ({"expected_orders": 4.04, "cents_per_order": 1000.0}, "4.0 orders of €10.00 each"),
        ({"if_treated": 0.3, "if_control": 0.25}, "30.0% with a campaign, 25.0% without"),
    ],
)
def test_what_a_score_is_made_of_is_said_by_its_kind(told: Told, details: dict[str, float | None], said: str) -> None:
    assert told.manifest["as_of"] == "2025-02-04"
    score = told.scorer.score("repeat_order", [told.release.users[0].decode()], datetime.now(UTC))[0]
    assert person._parts(told, replace(score, details=details or None), WORDS, FORMATS) == said
