"""A bundle on disk is the bundle in memory to the bit, or it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BundleRefused
from features.files import read_json, sha256_of, write_json
from training.blend import Blend, Logistic
from training.bundle import Bundle, golden_rows, load_bundle, save_bundle
from training.models import Recipe, fit

NAMES = ("recency", "orders", "revenue", "views", "share", "age")
TOLERANCE = 1e-9  # of sums of contributions, in log-odds


def rows_of(count: int, seed: int = 0) -> np.ndarray:
    """Rows as they come: counts, cents, shares, a fifth of the values missing."""
    random = np.random.default_rng(seed)
    rows = random.gamma(0.7, [30, 4, 20_000, 50, 0.5, 40], (count, len(NAMES))) * random.choice([1, -1], (count, 1), p=[0.95, 0.05])
    return np.where(random.random(rows.shape) < 0.2, np.nan, rows)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    X = rows_of(900)
    random = np.random.default_rng(1)
    y = (random.random(900) < 1 / (1 + np.exp(np.nan_to_num(X[:, 0]) / 20 - np.nan_to_num(X[:, 1]) / 3))).astype(np.int8)
    parts = fit(X, y, np.arange(900).astype(object), Recipe(trees=30, seeds=2))
    made = Bundle(NAMES, parts, {"task": "test", "calibrated": True}, {"score_deciles": [0.1, 1 / 3]}, {})
    return replace(made, golden=golden_rows(made, X[:20]))


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save_bundle(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def closed_to_lightgbm(monkeypatch: pytest.MonkeyPatch) -> None:
    """LightGBM ends the process on some torn files, so it must not even see one."""

    def opened(**_: object) -> None:
        raise AssertionError("LightGBM was given a text whose hash was not checked")

    monkeypatch.setattr("training.blend.lgb.Booster", opened)


# --- on disk --------------------------------------------------------------------------------------------------------


def test_what_was_saved_is_loaded_to_the_bit(bundle, folder):
    loaded, rows = load_bundle(folder, bundle.digest), rows_of(300, seed=2)
    assert (loaded.digest, sha256_of(folder / "bundle.json")) == (bundle.digest, bundle.digest)
    assert loaded.model == bundle.model
    assert loaded.scores(rows).tobytes() == bundle.scores(rows).tobytes()
    assert loaded.contributions(rows).tobytes() == bundle.contributions(rows).tobytes()
    loaded.check_golden_rows()


def test_saving_twice_gives_the_same_bytes(bundle, folder, tmp_path):
    save_bundle(load_bundle(folder), tmp_path / "again")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()}


@pytest.mark.parametrize("percent", [0, 2, 10, 25, 50, 75, 90, 99])
def test_torn_trees_are_refused_before_lightgbm_opens_them(folder, percent, closed_to_lightgbm):
    file = folder / "trees_1.txt"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * percent // 100])
    with pytest.raises(BundleRefused, match=r"trees_1\.txt was changed"):
        load_bundle(folder)


@pytest.mark.parametrize("percent", [0, 2, 50, 99])
def test_a_torn_header_is_refused(bundle, folder, percent, closed_to_lightgbm):
    file = folder / "bundle.json"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * percent // 100])
    with pytest.raises(BundleRefused):
        load_bundle(folder)
    with pytest.raises(BundleRefused, match=r"bundle\.json was changed|cannot be read"):
        load_bundle(folder, bundle.digest)


def test_one_digit_of_one_leaf_is_enough_to_refuse(folder, closed_to_lightgbm):
    file = folder / "trees_0.txt"
    text = file.read_text()
    place = text.index("leaf_value=") + len("leaf_value=") + 4
    file.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    assert len(file.read_text()) == len(text)
    with pytest.raises(BundleRefused, match=r"trees_0\.txt was changed"):
        load_bundle(folder)


def test_a_changed_coefficient_is_refused_by_the_hash_and_by_the_golden_rows(bundle, folder):
    header = read_json(folder / "bundle.json")
    header["model"]["logistic"]["coef"][0] += 1e-5
    write_json(folder / "bundle.json", header)
    with pytest.raises(BundleRefused, match="hash differs"):
        load_bundle(folder, bundle.digest)
    with pytest.raises(BundleRefused, match="does not reproduce its golden rows"):
        load_bundle(folder).check_golden_rows()


@pytest.mark.parametrize("file", ["bundle.json", "trees_0.txt"])
def test_a_missing_file_is_refused_by_name(folder, file):
    (folder / file).unlink()
    with pytest.raises(BundleRefused, match=file):
        load_bundle(folder)


def test_another_format_is_refused_with_both_numbers(folder):
    write_json(folder / "bundle.json", {**read_json(folder / "bundle.json"), "format": 99})
    with pytest.raises(BundleRefused, match="format 99; this version of Encore reads format 2"):
        load_bundle(folder)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '"text"', '{"format": 2}'])
def test_json_that_is_no_bundle_is_refused(folder, content):
    (folder / "bundle.json").write_text(content)
    with pytest.raises(BundleRefused):
        load_bundle(folder)


# --- features by name -----------------------------------------------------------------------------------------------


@given(st.permutations([*NAMES, "extra", "another"]))
@settings(max_examples=20)
def test_features_are_found_by_name_in_any_order_and_among_others(bundle, names):
    rows = rows_of(30, seed=3)
    columns = {**dict(zip(NAMES, rows.T, strict=True)), "extra": np.full(30, 7.0), "another": np.full(30, np.nan)}
    table = np.column_stack([columns[name] for name in names])
    assert bundle.scores(table[:, bundle.align(names)]).tobytes() == bundle.scores(rows).tobytes()


def test_all_missing_features_are_listed(bundle):
    with pytest.raises(BundleRefused, match=r"2 feature\(s\) that the snapshot lacks: orders, age\."):
        bundle.align(["share", "views", "revenue", "recency"])


@pytest.mark.parametrize("columns", [0, 5, 7])
def test_another_number_of_columns_is_refused(bundle, columns):
    with pytest.raises(BundleRefused, match=f"Rows have {columns} columns, the model of 'test' has 6 features"):
        bundle.scores(np.zeros((3, columns)))


# --- scores ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 80), st.integers(0, 400), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_a_user_scores_the_same_to_the_bit_alone_and_in_any_batch_in_any_order(bundle, size, start, random):
    rows = rows_of(500, seed=4)[start : start + size]
    order = random.sample(range(size), size)
    whole = bundle.scores(rows)
    assert bundle.scores(rows[order]).tobytes() == whole[order].tobytes()
    assert bundle.scores(np.asfortranarray(rows)).tobytes() == whole.tobytes()
    alone = order[0]
    assert bundle.scores(rows[alone : alone + 1]).tobytes() == whole[alone : alone + 1].tobytes()
    assert bundle.contributions(rows[alone : alone + 1]).tobytes() == bundle.contributions(rows)[alone : alone + 1].tobytes()


def test_every_row_alone_scores_as_in_a_thousand(bundle):
    rows = rows_of(1000, seed=5)
    assert np.concatenate([bundle.scores(row[None]) for row in rows]).tobytes() == bundle.scores(rows).tobytes()


def test_contributions_add_up_to_the_log_odds(bundle):
    rows = rows_of(500, seed=6)
    shares = bundle.contributions(rows)
    assert shares.shape == (500, len(NAMES) + 1)
    np.testing.assert_allclose(shares.sum(axis=1), bundle.model.logits(rows), rtol=0, atol=TOLERANCE)
    assert len(set(shares[:, -1])) == 1  # what everybody starts from


def test_a_bundle_without_trees_is_its_logistic():
    logistic = Logistic(columns=(1,), median=(0.0,), mean=(0.0,), scale=(1.0,), coef=(2.0,), intercept=-1.0)
    bundle = Bundle(("a", "b"), Blend(logistic), {"task": "test", "calibrated": True}, {}, {})
    rows = np.array([[9, 0], [9, np.e - 1], [9, np.nan], [9, -1e9]])
    np.testing.assert_allclose(bundle.model.logits(rows), [-1, 1, -1, -9])  # the last value is clipped at 4 deviations
    np.testing.assert_allclose(bundle.contributions(rows)[:, 0], 0)


def test_no_rows_have_no_scores(bundle):
    assert bundle.scores(np.empty((0, len(NAMES)))).shape == (0,)


@pytest.mark.parametrize("change", [1e-6, np.nan])
def test_golden_rows_pass_as_made_and_fail_when_altered(bundle, change):
    bundle.check_golden_rows()
    scores = [*bundle.golden["scores"][:-1], bundle.golden["scores"][-1] + change]
    with pytest.raises(BundleRefused, match="does not reproduce its golden rows"):
        replace(bundle, golden={**bundle.golden, "scores": scores}).check_golden_rows()
