"""What the log promises about time and identity of data, on tables that can be checked in the head."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from features.errors import InvalidShopFile, LabelWindowOpen, NoUsableData
from features.events import EventLog
from features.shopfile import Shop, read_shop
from features.store import SnapshotStore
from features.tiles import open_tiles

ORDER = {"event": "order", "order_id": "a", "occurred_at": "2024-03-01T10:00", "value_cents": 100, "quantity": 1, "currency": "EUR"}
VIEW = {"event": "product_view", "product_id": "p", "occurred_at": "2024-05-01T10:00"}


def test_the_stream_of_orders_that_lags_behind_says_how_far_labels_reach(make_log, make_batch):
    log = make_log([ORDER], complete_until=date(2024, 4, 1))
    log.append(make_batch([VIEW], complete_until=date(2024, 6, 1)))
    other = make_batch([{**ORDER, "order_id": "b", "occurred_at": "2024-04-20T10:00"}], complete_until=date(2024, 5, 1))
    assert log.complete_until == date(2024, 6, 1)  # one stream, continued: its own later word counts
    log = make_log([ORDER], complete_until=date(2024, 4, 1))
    log.append(type(other)(**{**vars(make_batch([VIEW], complete_until=date(2024, 6, 1))), "stream": "web"}))
    assert log.complete_until == date(2024, 4, 1)  # views bring no orders: labels end where orders end
    log.append(type(other)(**{**vars(other), "stream": "second shop"}))
    assert log.complete_until == date(2024, 4, 1)
    tiles = open_tiles(log, Shop("Test shop", "UTC", "EUR"), log.directory / "tiles")
    with pytest.raises(LabelWindowOpen):
        tiles.between(date(2024, 3, 15), date(2024, 4, 2))


def test_a_snapshot_beyond_the_log_is_refused(make_log, shop, tmp_path):
    tiles = open_tiles(make_log([ORDER], complete_until=date(2024, 4, 1)), shop, tmp_path / "tiles")
    with pytest.raises(NoUsableData, match="complete only until 2024-04-01"):
        SnapshotStore(tmp_path).get(tiles, date(2024, 4, 1) + timedelta(days=1))
    assert SnapshotStore(tmp_path).get(tiles, date(2024, 4, 1)).table.num_rows == 1


def test_another_users_order_of_the_same_number_survives_a_cancellation(make_log, make_snapshot):
    cancel = {"event": "order_cancelled", "order_id": "a", "occurred_at": "2024-03-02T10:00"}
    log = make_log([{**ORDER, "user_id": "ann"}, {**ORDER, "user_id": "bob"}, {**cancel, "user_id": "ann"}])
    counts = make_snapshot(log, date(2024, 4, 1)).frame["orders_count"]
    assert (counts["ann"], counts["bob"]) == (0, 1)


def test_a_cancelled_line_does_not_cancel_its_order(make_log, make_snapshot):
    log = make_log([ORDER, {"event": "order_cancelled", "order_id": "a", "product_id": "p", "occurred_at": "2024-03-02T10:00"}])
    assert make_snapshot(log, date(2024, 4, 1)).frame["orders_count"]["u"] == 1


@pytest.mark.parametrize("user_id", ["x" * 257, "a\nb", "a\u200bb", ""])
def test_ids_that_nobody_could_ask_for_are_quarantined(make_log, make_batch, user_id):
    log = make_log([ORDER])
    report = log.append(make_batch([{**ORDER, "order_id": "b", "user_id": user_id}, {**ORDER, "order_id": "c"}]))
    assert (report.added, list(report.quarantined.values())) == (1, [1])


def test_a_log_keeps_the_zone_and_currency_it_was_made_with(make_log, make_batch):
    log = make_log([ORDER])
    moved = EventLog(log.directory, "Asia/Shanghai", "EUR")
    with pytest.raises(InvalidShopFile, match="zone is 'Asia/Shanghai', but the log was made with 'UTC'"):
        moved.append(make_batch([{**ORDER, "order_id": "b"}]))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[sources]\nkind = 'table'", r'line 4: "sources" must be written as \[\[sources\]\]'),
        ("interest = 'x'", '"interest" must be a table of lists'),
        ("attributes = 'age'", '"attributes" must be a list of names'),
        ("[interest]\norders = ['page_view']", "interest level 'orders' needs another name"),
    ],
)
def test_a_shop_file_of_the_wrong_shape_is_refused_with_the_right_one(tmp_path, line, problem):
    (tmp_path / "encore.toml").write_text(f'name = "x"\nzone = "UTC"\ncurrency = "EUR"\n{line}\n')
    with pytest.raises(InvalidShopFile, match=problem):
        read_shop(tmp_path / "encore.toml")
