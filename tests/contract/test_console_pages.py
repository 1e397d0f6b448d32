"""What a publication collects for the console: bands, moves, first orders, curves; each against plain loops or a table that is checked in the head."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from serving.bands import BANDS, bands_of
from serving.release import load_release
from training.curves import SHARES, by_tenth, positives_captured, spend_captured, waiting
from training.shop_moves import first_orders, moves, tiers


def test_bands_are_what_a_plain_loop_finds(published):
    release = load_release(published.root / published.second)
    bundle, scores = release.bundles["repeat_order"], release.scores["repeat_order"]
    told = bands_of(bundle, published.snapshot, scores)
    eligible = [row for row in range(len(release.users)) if scores.score[row] == scores.score[row]]
    of = {name: [row for row in eligible if _band(scores.percentile[row]) == name] for name in BANDS}
    assert told["users"] == {name: len(rows) for name, rows in of.items()}
    assert 3 <= len(told["features"]) <= 12
    for one in told["features"]:
        column = release.vectors[:, release.features.index(one["name"])]
        for name, rows in of.items():
            known = [float(column[row]) for row in rows if column[row] == column[row]]
            band = one["bands"][name]
            assert band["missing"] == pytest.approx(1 - len(known) / len(rows))
            if known:
                assert band["mean"] == pytest.approx(sum(known) / len(known))
                assert band["quantiles"][2] == pytest.approx(float(np.median(known)))
                assert sum(band["shares"]) == pytest.approx(1, abs=1e-3)
            if "values" in one:
                assert band["shares"] == pytest.approx([known.count(value) / max(1, len(known)) for value in one["values"]], abs=1e-4)
    shares = [one["share"] for one in told["features"]]
    assert shares == sorted(shares, reverse=True)
    written = json.loads((published.root / published.second / "pages" / "bands.repeat_order.json").read_bytes())
    assert written == json.loads(json.dumps(told))


def test_a_feature_that_nobody_has_a_value_of_is_not_among_those_that_tell_users_apart(published):
    bundle, table = load_release(published.root / published.second).bundles["repeat_order"], published.snapshot.table
    scores = load_release(published.root / published.second).scores["repeat_order"]
    best = bands_of(bundle, published.snapshot, scores)["features"][0]["name"]
    empty = pa.nulls(len(table), table.schema.field(best).type)
    without = replace(published.snapshot, table=table.set_column(table.schema.get_field_index(best), best, empty))
    assert best not in [one["name"] for one in bands_of(bundle, without, scores)["features"]]


def _band(percentile):
    return "low" if percentile < 20 else "high" if percentile >= 80 else "medium"


def test_bands_name_no_user(published):
    text = (published.root / published.second / "pages" / "bands.repeat_order.json").read_text()
    assert not any(user.decode() in text for user in load_release(published.root / published.second).users[:200])


THEN = pd.DataFrame(
    {
        "layers_layer": ["visitor", "visitor", "loyal", "lapsed", "visitor"],
        "orders_count": [0.0, 0.0, 3.0, 2.0, 0.0],
        "interest_strong_30d": [1.0, 0.0, 5.0, 0.0, 0.0],
        "interest_awareness_30d": [4.0, 2.0, 5.0, 0.0, 0.0],
        "touch_first_source": ["ads", "ads", None, None, None],
    },
    index=list("abcde"),
)
NOW = pd.DataFrame(
    {
        "layers_layer": ["new, high value", "visitor", "loyal", "loyal", "visitor", "visitor"],
        "orders_count": [1.0, 0.0, 4.0, 3.0, 0.0, 0.0],
        "orders_revenue": [5000.0, 0.0, 9000.0, 4000.0, 0.0, 0.0],
        "membership_tier": [1.0, np.nan, 2.0, 1.0, np.nan, np.nan],
    },
    index=list("abcdef"),
)


def test_moves_between_layers():
    told = moves(THEN, NOW)
    assert told["layers"] == ["visitor", "new, high value", "loyal", "lapsed"]
    assert told["counts"] == [[2, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert told["new"] == [1, 0, 0, 0]


def test_first_orders_by_interest_and_source():
    told = first_orders(THEN, NOW, ["strong", "awareness"])  # whatever the order in the shop file
    assert (told["all"]["visitors"], told["all"]["ordered"]) == (3, 1)
    assert [(one["name"], one["visitors"], one["ordered"]) for one in told["by_interest"]] == [("strong", 1, 1), ("awareness", 1, 0), ("none", 1, 0)]
    assert [(one["name"], one["visitors"], one["ordered"]) for one in told["by_source"]] == [("ads", 2, 1), ("unknown", 1, 0)]
    assert told["all"]["rate"]["value"] == pytest.approx(1 / 3)


def test_levels_of_membership():
    told = tiers(NOW)
    assert [(one["level"], one["users"], one["customers"], one["orders"], one["revenue_cents"]) for one in told] == [
        (1, 2, 2, 4, 9000),
        (2, 1, 1, 4, 9000),
        (None, 3, 0, 0, 0),
    ]
    assert tiers(NOW.drop(columns="membership_tier")) is None


def test_captured_shares_are_counted():
    rng = np.random.default_rng(3)
    p, y = rng.random(200), (rng.random(200) < 0.3).astype(int)
    spent = rng.integers(0, 5000, 200) * y
    best = np.argsort(-p)
    for place, share in enumerate(SHARES):
        count = round(share * 200)
        assert positives_captured(y, p)[place] == pytest.approx(y[best[:count]].sum() / y.sum())
        assert spend_captured(spent, p)[place] == pytest.approx(spent[best[:count]].sum() / spent.sum())
    groups = by_tenth(spent, p)
    assert [one["count"] for one in groups] == [20] * 10
    assert groups[0]["observed"] == pytest.approx(spent[best[:20]].mean())


def test_a_constant_score_captures_in_proportion():
    assert positives_captured([1, 0, 0, 1], [0.5] * 4) == pytest.approx(SHARES.tolist())


def test_waiting_by_thirds():
    told = waiting(np.array([1.0, 2.0, np.nan]), np.array([[0.5, 0.1], [0.8, 0.4], [0.9, 0.9]]), (1, 3))
    assert told["days"] == [0, 1, 3]
    assert [(one["name"], one["predicted"], one["observed"]) for one in told["groups"]] == [
        ("soonest", [1.0, 0.5, 0.1], [1.0, 1.0, 0.0]),
        ("middle", [1.0, 0.8, 0.4], [1.0, 1.0, 0.0]),
        ("latest", [1.0, 0.9, 0.9], [1.0, 1.0, 1.0]),
    ]


def test_pages_are_part_of_the_release_and_of_its_name(published, tmp_path):
    from serving.release import write_release

    before = load_release(published.root / published.second)
    facts = {"version": "1", "run_id": "run", "kind": "model", "decision": "x", "metrics": {"model": {}}}
    models = {"churn": (published.bundles["churn"], ~np.isnan(before.scores["churn"].score), facts)}
    about = {"scored_at": before.manifest["scored_at"]}
    ids = [write_release(tmp_path, published.snapshot, models, about, pages={"shop.json": content}) for content in (b"{}", b"{}", b'{"shop": "x"}')]
    assert ids[0] == ids[1] != ids[2]
    (tmp_path / ids[0] / "pages" / "shop.json").write_bytes(b'{"shop": "y"}')
    with pytest.raises(Exception, match=r"pages/shop.json"):
        load_release(tmp_path / ids[0], anew=True)
