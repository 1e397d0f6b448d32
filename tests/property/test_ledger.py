"""The log against a slow reading of what was said: a list of statements, asked what was known at a moment.

A shop of five people and four devices: orders with up to three versions, cancellations by anybody, and links from any id to
any other, so that chains, circles and rivals occur. Two things are not drawn, since the log forgets what adds nothing and so
the order of arrival would matter: a version that says again what an earlier one said and a later one withdrew, and an order
that changes hands and is cancelled. An example takes seconds, so each holds dozens of facts, and few are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from features.events import EventLog
from features.store import SnapshotStore, read_snapshot
from features.tiles import open_tiles

START = datetime(2024, 3, 1)
DAYS = 12
CUTOFFS = [date(2024, 3, day) for day in (3, 6, 9, 13)]
PEOPLE, DEVICES = ("ann", "bob", "eve", "joe", "sue"), ("phone", "tablet", "laptop", "kiosk")
# Not shrunk: that would take minutes.
few = settings(max_examples=4, deadline=None, database=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Said:
    """One statement. `who` is the id that it is about; an identification has `device` too, who is `who` from then on."""

    fact: str
    event: str
    who: str
    happened: datetime
    known: datetime
    order: str | None = None
    cents: int = 0
    device: str | None = None

    def row(self) -> dict[str, Any]:
        ids = {"anonymous_id": self.who} if self.who in DEVICES else {"user_id": self.who}
        if self.device:
            ids = {"user_id": self.who, "anonymous_id": self.device}
        times = {"occurred_at": self.happened.isoformat(), "known_at": self.known.isoformat()}
        return {"event_id": self.fact, "event": self.event, "order_id": self.order, "value_cents": self.cents, "quantity": 1, "currency": "EUR", **ids, **times}


# --- what is drawn --------------------------------------------------------------------------------------------------

ids = st.sampled_from([*PEOPLE, *DEVICES])
hours = st.integers(0, 24 * DAYS - 1).map(lambda hour: START + timedelta(hours=hour))


@st.composite
def an_order(draw: st.DrawFn) -> list[tuple[str, datetime, datetime]]:
    """Versions of one order: whose it is, when it happened, when that was known. The first may be known at once."""
    happened, who = draw(hours), draw(ids)
    delays = sorted(draw(st.lists(st.integers(1, 150), unique=True, max_size=2)))
    first = draw(st.sampled_from([0, 0, 0, 20, 70]))
    versions = [(who, happened, happened + timedelta(hours=first))]
    for delay in delays:
        who = draw(st.sampled_from([who, who, draw(ids)]))
        versions.append((who, happened - timedelta(hours=draw(st.sampled_from([0, 0, 30]))), versions[-1][2] + timedelta(hours=delay)))
    return versions


@st.composite
def stories(draw: st.DrawFn) -> list[Said]:
    """Everything that is ever said; the first order is a witness, so that every log has orders."""
    said = [Said("witness", "order", "witness", START, START, "o-witness", 1)]
    orders = draw(st.lists(an_order(), min_size=25, max_size=40))
    for number, versions in enumerate(orders):
        for version, (who, happened, known) in enumerate(versions):
            said.append(Said(f"order {number}", "order", who, happened, known, f"o{number}", 1000 * number + version + 1))
    cancels = draw(st.lists(st.tuples(st.integers(0, len(orders) - 1), st.one_of(st.none(), ids), hours), max_size=15))
    for place, (number, who, moment) in enumerate(cancels):
        if len({version[0] for version in orders[number]}) > 1:
            continue
        said.append(Said(f"cancel {place}", "order_cancelled", who or orders[number][0][0], moment, moment, f"o{number}"))
    for place, (device, who, moment) in enumerate(draw(st.lists(st.tuples(ids, ids, hours), max_size=6))):
        said.append(Said(f"link {place}", "identified", who, moment, moment, device=device))
    return said


# --- the slow reading -----------------------------------------------------------------------------------------------


def links_of(said: Sequence[Said]) -> dict[str, tuple[str, datetime]]:
    """Id -> (whose it is, since when): the first link of an id counts, unless it closes a circle."""
    kept: dict[str, tuple[str, datetime]] = {}
    for link in sorted((each for each in said if each.device), key=lambda each: (each.known, str(each.device), each.who)):
        end = link.who
        while end in kept:
            end = kept[end][0]
        if link.device not in kept and end != link.device:
            kept[str(link.device)] = (link.who, link.known)
    return kept


def owner(links: dict[str, tuple[str, datetime]], name: str, moment: datetime) -> str:
    while name in links and links[name][1] <= moment:
        name = links[name][0]
    return name


def reading(said: Sequence[Said], as_of: date) -> pd.DataFrame:
    """Per user with a known fact: orders that stand, and their cents."""
    cut = datetime.combine(as_of, datetime.min.time())
    heard = [each for each in said if each.known < cut]
    links = links_of(heard)
    latest = {each.fact: each for each in sorted(heard, key=lambda each: each.known)}
    cancels = [each for each in latest.values() if each.event == "order_cancelled"]
    rows: dict[str, list[int]] = {}
    for fact in latest.values():
        if fact.event == "order" and any(c.order == fact.order and owner(links, c.who, c.known) == owner(links, fact.who, c.known) for c in cancels):
            continue
        count = rows.setdefault(owner(links, fact.who, cut - timedelta(microseconds=1)), [0, 0])
        count[0] += fact.event == "order"
        count[1] += fact.cents
    return pd.DataFrame.from_dict(rows, orient="index", columns=["orders_count", "orders_revenue"]).sort_index().astype(float)


# --- the claims -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log_of(make_log, make_batch):
    """Statements, in some batches -> a log."""

    def log(*batches: Sequence[Said]) -> EventLog:
        made = make_log([each.row() for each in batches[0]])
        for batch in batches[1:]:
            made.append(make_batch([each.row() for each in batch]))
        return made

    return log


@pytest.fixture(scope="module")
def frames_of(shop, tmp_path_factory):
    """A log -> its frame at each cutoff."""

    def frames(log: EventLog) -> list[pd.DataFrame]:
        folder = tmp_path_factory.mktemp("frames")
        return [read_snapshot(path).frame for path in SnapshotStore(folder / "snapshots").build(open_tiles(log, shop, folder / "tiles"), CUTOFFS)]

    return frames


@few
@given(stories(), st.randoms(use_true_random=False))
def test_in_whatever_order_and_pieces_it_is_said_the_log_knows_what_a_slow_reading_knows(log_of, frames_of, said, random):
    together = log_of(said)
    shuffled = random.sample(said, len(said))
    ends = sorted(random.sample(range(1, len(said)), 3))
    pieces = log_of(*(shuffled[begin:end] for begin, end in zip([0, *ends], [*ends, len(said)], strict=True)))
    for as_of, frame in zip(CUTOFFS, frames_of(together), strict=True):
        slow = reading(said, as_of)
        pd.testing.assert_frame_equal(frame[["orders_count", "orders_revenue"]], slow, check_names=False, check_index_type=False, obj=f"as of {as_of}")
    assert pieces.digest == together.digest
    for frame, other in zip(frames_of(together), frames_of(pieces), strict=True):
        pd.testing.assert_frame_equal(frame, other)


@few
@given(stories(), st.randoms(use_true_random=False))
def test_saying_any_of_it_again_changes_nothing(log_of, make_batch, said, random):
    log = log_of(random.sample(said, len(said)))
    digest, parts = log.digest, log.parts
    report = log.append(make_batch([each.row() for each in random.sample(said, len(said) // 2)]))
    assert (report.added, report.restated, report.taken_back, report.changes_from) == (0, 0, 0, None)
    assert (log.digest, log.parts) == (digest, parts)


@few
@given(stories(), st.sampled_from(CUTOFFS))
def test_what_was_known_before_a_day_is_what_a_log_of_that_day_knows(log_of, said, as_of):
    cut = datetime.combine(as_of, datetime.min.time())
    then, log = log_of([each for each in said if each.known < cut]), log_of(said)
    assert log.digest_before(as_of) == then.digest_before(as_of)


@few
@given(stories(), st.sampled_from(PEOPLE))
def test_a_deleted_user_leaves_a_log_that_never_heard_of_them(log_of, frames_of, make_batch, said, name):
    links = links_of(said)
    end = START + timedelta(days=1000)
    name = owner(links, name, end)
    gone = {each for each in (*PEOPLE, *DEVICES) if owner(links, each, end) == name}
    # What somebody else has a part in is another question: an order that was corrected to be theirs, a link that lost.
    named: dict[str, set[str | None]] = {}
    for each in said:
        named[each.fact] = named.get(each.fact, set()) | {each.who, each.device or each.who}
    said = [each for each in said if named[each.fact] <= gone or not named[each.fact] & gone]
    log = log_of(said)
    log.bury([name], "deleted")
    rest = [each for each in said if not named[each.fact] & gone]
    for frame, other in zip(frames_of(log), frames_of(log_of(rest)), strict=True):
        pd.testing.assert_frame_equal(frame[["stage", "orders_count", "orders_revenue"]], other[["stage", "orders_count", "orders_revenue"]])
    digest = log.digest
    log.append(make_batch([each.row() for each in said]))
    assert log.digest == digest
