"""The console's words: every key in every language, nothing written into a template, and numbers as their readers write them."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import serving.console as console
from features.shopfile import Shop
from features.snapshot import catalogue as features
from features.views.layers import GROUPS
from features.vocabulary import EVENTS, STAGES
from serving.console.charts import nice
from serving.console.formats import Formats
from serving.console.words import LANGUAGES, Words, catalogue, chosen
from serving.scorer import Status
from training.kinds import KINDS
from training.lookalike.expansion_page import IN_WORDS
from training.shop_value import LAYERS, VISITOR
from training.slices import BANDS, LABELS
from training.tasks import TASKS

FOLDER = Path(console.__file__).parent
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))
ENGLISH = catalogue("en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_key_is_in_every_language_with_the_same_places(language):
    mine = {key: text for key, text in catalogue(language).items() if not key.startswith(("meaning.", "said."))}
    assert mine.keys() == ENGLISH.keys()
    for key, text in mine.items():
        assert text.strip(), key
        assert sorted(re.findall(r"\{(\w*)\}", text)) == sorted(re.findall(r"\{(\w*)\}", ENGLISH[key])), key


def test_a_sentence_of_the_data_has_no_place_that_is_not_in_it():
    for key, text in catalogue("zh").items():
        if key.startswith("said."):
            assert set(re.findall(r"\{(\w*)\}", text)) <= set(re.findall(r"\{(\w*)\}", key)), key


def test_chinese_is_chinese():
    same = {key for key, text in catalogue("zh").items() if not re.search(r"[\u4e00-\u9fff]", text)}
    names = {"metric.auc", "metric.qini", "baseline.BG/NBD", "baseline.BG/NBD x Gamma-Gamma"}
    assert same == names | {key for key in ENGLISH if key in ("common.comma", "common.stop", "health.psi")}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_words_of_its_own(template):
    text = template.read_text()
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<(code|pre|script)[^>]*>.*?</\1>", " ", text, flags=re.S)
    spoken = " ".join(re.findall(r'\b(?:aria-label|placeholder|alt|title)="([^"]*)"', text))
    outside = re.sub(r"<[^>]*>", " ", text)
    left = re.sub(r"\bEncore\b|\bJSON\b|&\w+;|encore\s+\w+|/console/", " ", f"{outside} {spoken}")
    assert not re.search(r"[A-Za-z\u4e00-\u9fff]{2,}", left), re.findall(r"[A-Za-z]{2,}", left)


def test_every_key_that_is_asked_for_exists():
    asked = set()
    for file in [*TEMPLATES, *FOLDER.glob("*.py")]:
        asked |= set(re.findall(r"""\b(?:t|text)\(f?["']([a-z_]+\.[A-Za-z_]+)["'][,)]""", file.read_text()))
    assert len(asked) > 150
    assert asked - {"meaning.within"} <= ENGLISH.keys()  # English says its windows itself


def test_every_word_of_the_data_has_a_name():
    tasks = [*TASKS]
    words = {
        "task": tasks,
        "question": tasks,
        "eligible": tasks,
        "event": [*EVENTS],
        "label": [VISITOR, *LAYERS, *GROUPS, *STAGES],
        "stage": STAGES,
        "slice": [*LABELS, *BANDS],
        "method": IN_WORDS,
        "metric": {name for kind in KINDS.values() for name in (*kind.shown, *kind.headline, kind.main)},
        "unit": KINDS,
        "absent": [status.value for status in (Status.NOT_FOUND, Status.SUPPRESSED, Status.INVALID)],
        "family": {feature.view for feature in everything()},
    }
    for table, names in words.items():
        for name in names:
            assert f"{table}.{name}" in ENGLISH, (table, name)


def everything():
    return features(Shop("x", "UTC", "EUR", attributes=("growth_value",), tiers=(0, 100)), frozenset(EVENTS))


def test_every_feature_of_the_catalogue_is_told_in_chinese():
    words = Words("zh")
    untold = {feature.meaning for feature in everything() if words.meaning(feature.meaning) is None}
    assert untold == set()
    assert words.meaning("orders placed in the last 30 days") == "最近 30 天下单数"
    assert words.meaning("orders placed in the last 1 day") == "最近 1 天下单数"
    assert words.meaning("purchases of 'x'") is None


def test_english_says_flags_as_statements():
    assert Words("en").meaning("1 if more was spent than the typical buyer spends") == "More was spent than the typical buyer spends"


@pytest.mark.parametrize(
    ("wanted", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9", "zh"),
        (None, "zh-Hant-TW", "zh"),
        (None, "de-DE,de;q=0.9,zh;q=0.5,en;q=0.4", "zh"),
        (None, "en;q=0.1,zh;q=0.9", "zh"),
        (None, "zh;q=0", "en"),
        (None, "fr", "en"),
        ("zh", "en", "zh"),
        ("en", "zh", "en"),
        ("xx", "zh", "zh"),
    ],
)
def test_the_language_is_the_one_chosen_then_the_browsers_then_english(wanted, accepted, language):
    assert chosen(wanted, accepted) == language


@given(st.text(max_size=200), st.none() | st.text(max_size=5))
def test_whatever_a_browser_sends_there_is_a_language(accepted, wanted):
    assert chosen(wanted, accepted) in LANGUAGES


def test_numbers_money_and_dates_are_written_as_each_language_does():
    english, chinese = Formats("en", "EUR", "Europe/Paris"), Formats("zh", "CNY", "Asia/Shanghai")
    assert (english.number(1234567), chinese.number(1234567)) == ("1,234,567", "1,234,567")
    assert (english.percent(0.1234), chinese.percent(0.1234)) == ("12.3%", "12.3%")
    assert (english.money(123456), chinese.money(123456)) == ("€1,235", "¥1,235")
    assert (english.money(999), Formats("en", "JPY").money(999), Formats("zh", "EUR").money(-999)) == ("€9.99", "JP¥999", "-€9.99")
    assert (english.day("2026-11-22"), chinese.day("2026-11-22")) == ("22 Nov 2026", "2026年11月22日")
    assert (english.month("2026-11"), chinese.month("2026-11")) == ("Nov 2026", "2026年11月")
    assert english.moment("2026-06-30T22:30:00+00:00") == "1 Jul 2026, 00:30 CEST"
    assert chinese.moment("2026-06-30T22:30:00+00:00") == "2026年7月1日 06:30 CST"
    assert english.value(0.25, "share") == "25%"
    assert english.value(2.0, "days") == "2"
    assert {english.number(None), english.percent(float("nan")), english.money(None), english.day(None), english.value(float("nan"), "days")} == {"–"}
    assert Formats("en", "EUR", "Nowhere/None").moment("2026-01-01T00:00:00+00:00") == "1 Jan 2026, 00:00 UTC"


@given(st.floats(-1e6, 1e6), st.floats(0.01, 1e6), st.integers(2, 8))
def test_the_ticks_of_an_axis_are_even_and_span_it(low, span, wanted):
    ticks = nice(low, low + span, wanted)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 2 * wanted + 3
    assert ticks[0] <= low + abs(step) * 1e-6
    assert ticks[-1] >= low + span - abs(step) * 1e-6
    assert all(abs(after - before - step) <= 1e-6 * step + 1e-6 * abs(low) * 1e-6 for before, after in pairwise(ticks))


def test_the_ticks_of_common_axes():
    assert nice(0, 1) == [0, 0.25, 0.5, 0.75, 1.0]
    assert nice(0, 97) == [0, 25, 50, 75, 100]
    assert nice(0.71, 0.88) == [0.7, 0.75, 0.8, 0.85, 0.9]
