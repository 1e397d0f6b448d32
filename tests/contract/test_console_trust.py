"""What the trust page says of realised quality, and that what the data say in English is said in Chinese."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from html import unescape
from pathlib import Path

import numpy as np
import pytest

import training
from serving.audiences.suggested import SUGGESTIONS
from serving.console.words import Words
from serving.ledger import Ledger
from serving.quality import store
from serving.quality.rules import ADVICE, below_expectation, drifted, label_drift, treatment_drift
from training.drift import Drift, Moved
from training.gates import single_feature
from training.nowcast import Correction
from training.trial import Assignment

LANGUAGES = ("en", "zh")
CHINESE = re.compile("[\u4e00-\u9fff]")
FIRST, SECOND = date(2024, 3, 1), date(2024, 4, 1)


def interval(value, half):
    return {"value": value, "low": value - half, "high": value + half}


def facts(rows=1000, positives=300):
    """300 of 1,000 did it, 350 were expected; AUC .70 where .80 was promised."""
    metrics = {"auc": interval(0.70, 0.02), "mean_bias": interval(0.05, 0.01), "ece": interval(0.05, 0.01), "ece_floor": interval(0.02, 0.005)}
    promised, expected = {"auc": interval(0.80, 0.03)}, interval(350.0, 28.0)
    told = {"rows": rows, "customers": rows, "positives": positives, "actual": float(positives), "expected": expected}
    return {
        "all": told | {"metrics": metrics, "promised": promised},
        "treated": {"rows": 0},
        "untreated": {"rows": 0},
        "evidence": {"auc": interval(0.81, 0.02)},
    }


def noted(as_of: date, closes: date) -> store.NotedRun:
    return store.NotedRun(f"run-{as_of}", "repeat_order", "release", "7", "probability", as_of, closes, "digest", datetime(2024, 6, 1, tzinfo=UTC))


def judge(ledger: Ledger, run: store.NotedRun, found: dict) -> list[dict[str, str]]:
    alerts = [alert.describe() for alert in below_expectation("probability", found, found["evidence"])] if found["all"]["rows"] else []
    with ledger.connection() as connection:
        store.append(connection, None, store.Judgement("", run.run, run.task, 0, "window", "content", datetime(2024, 6, 1, tzinfo=UTC), found, alerts))
    return alerts


def seen(client, language: str) -> str:
    """The part of the page that is about realised quality."""
    answer = client.request("GET", "/console/trust/repeat_order", headers={"accept-language": language})
    assert answer.status == 200
    title = Words(language).text("trust.realised")
    part = answer.body.decode().split(f"<h2>{title}</h2>")[1].split("</section>")[0]
    assert language == "en" or 'lang="en"' not in part
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", part)).split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_came_true_stands_beside_what_was_promised(client, language):
    ledger = client.app.state.ledger
    runs = [noted(FIRST, date(2024, 3, 31)), noted(SECOND, date(2024, 5, 1)), noted(date(2024, 5, 5), date(2024, 6, 4))]
    store.note_runs(ledger, runs)
    assert [alert["rule"] for alert in judge(ledger, runs[0], facts())] == ["ranking", "level"]
    judge(ledger, runs[1], facts())
    text, words = seen(client, language), Words(language)
    for number in ("0.700 (0.680 – 0.720)", "0.800 (0.770 – 0.830)", "1,000", "350 (322 – 378)"):
        assert number in text
    days = ("4 Jun 2024", "1 Mar 2024") if language == "en" else ("2024年6月4日", "2024年3月1日")
    assert all(day in text for day in days)  # when the third can be judged; in the table, the first
    assert words.text("realised.alarm") in text
    assert ("worse" in text or "promised 0.800" in text) == (language == "en")
    assert words.text("realised.none") not in text


def test_a_run_without_an_answer_says_why(client):
    ledger, run = client.app.state.ledger, noted(FIRST, SECOND)
    store.note_runs(ledger, [run])
    reason = "repeat_order as of 2024-03-01: of 12 users scored nobody has an answer (Will they?)."
    judge(ledger, run, {"all": {"rows": 0, "customers": 0, "positives": 0, "unknown": reason}, "evidence": {}})
    assert reason in seen(client, "en")
    assert "12 名用户中没有人有结果" in seen(client, "zh")


@pytest.mark.parametrize("language", LANGUAGES)
def test_before_anything_is_judged_it_says_what_to_do(client, language):
    text = seen(client, language)
    assert "encore score" in text
    assert "encore quality" in text
    store.note_runs(client.app.state.ledger, [noted(FIRST, date(2024, 3, 31))])
    text = seen(client, language)
    assert ("31 Mar 2024" if language == "en" else "2024年3月31日") in text
    assert "encore score" not in text


def test_without_the_ledger_the_page_is_drawn_all_the_same(releases, serve, tmp_path):
    client = serve(releases, tmp_path)
    assert "encore quality" in seen(client, "en")  # the keys are known from now on
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    for language in LANGUAGES:
        assert Words(language).text("realised.away") in seen(client, language)


# --- sentences of the data ------------------------------------------------------------------------------------------


def alerts():
    """Every kind of alert, as the rules word it."""
    found, then = facts(), {"auc": interval(0.81, 0.02)}
    level = {**found, "all": found["all"] | {"promised": {}}}
    off = facts() | {"all": facts()["all"] | {"metrics": found["all"]["metrics"] | {"auc": interval(0.8, 0.02), "ece": interval(0.3, 0.01)}}}
    calibration = {**off, "all": off["all"] | {"metrics": off["all"]["metrics"] | {"mean_bias": interval(0.0, 0.01)}}}
    windows = {"coverage": interval(0.5, 0.02), "nominal_coverage": interval(0.8, 0.0)}
    date_facts = {**off, "all": off["all"] | {"metrics": off["all"]["metrics"] | windows}}
    amount = {"gini": interval(0.2, 0.02), "sum_ratio": interval(1.5, 0.05)}
    value = {**found, "all": {**found["all"], "metrics": amount, "promised": {}}}
    untreated = {**found, "untreated": found["all"]}
    yield from [*below_expectation("probability", found, then), *below_expectation("probability", level, then), *below_expectation("probability", off, then)]
    yield from [
        *below_expectation("probability", calibration, then),
        *below_expectation("date", date_facts, then),
        *below_expectation("rank", level | {}, then),
    ]
    yield from below_expectation("value", value, {"gini": interval(0.6, 0.02)})
    yield from below_expectation("probability", untreated, then)
    yield from below_expectation("effect", {"all": {"metrics": {"qini": interval(0.0, 0.01)}}}, {"qini": interval(0.5, 0.01)})
    yield from drifted(drift())
    yield from label_drift("probability", found, {"base_rate": 0.6})[1]
    yield from treatment_drift(found | {"treated": {"rows": 900}}, interval(0.2, 0.02))[1]


def drift() -> Drift:
    return Drift({"orders_count": Moved(0.4, 2.0), "orders_days": Moved(0.3, None)}, Moved(0.5, 1.0), 1000)


def gate_reasons():
    yield single_feature({"orders_count": 0.7}, ())
    yield single_feature({"orders_count": 0.97}, ())
    yield single_feature({"orders_count": 0.97}, ("orders_count",))
    yield from Assignment({"orders_count": 0.05}, 0.1, 0.5, 0.52).reasons
    yield from (drift().reason(setting) for setting in ("continue", "stop"))


def sentences():
    yield from ADVICE.values()
    for alert in alerts():
        yield alert.text
    for reason in gate_reasons():
        yield reason.text
    for one in SUGGESTIONS:
        yield from (one.name, one.sentence)
    bias = {"window": "2024-01-01", "shift": 0.1, "before": 0.02, "after": 0.01}
    metrics = {"mean_bias": interval(0.0, 0.0)}
    correction = Correction("nowcast", 0.02, 0.01, interval(0.01, 0.005), {"2024-02-01": bias}, metrics, np.zeros(1))
    yield f"mean probability minus observed rate +0.0200; at most 0.015 either way. The {correction.name} does not explain it ({correction.text})"


def test_every_rule_of_alarm_is_among_the_sentences():
    assert {alert.rule for alert in alerts()} == ADVICE.keys()


def test_sentences_of_the_data_are_told_in_chinese_to_the_last_word():
    words, names = Words("zh"), r"orders_\w+|encore \w+|encore\.toml|on_drift|signed_off|continue|stop|features|describe|AUC|PSI|Qini|ID|NAME|x[\d.]+"
    for text in sentences():
        said = words.said(text)
        assert said, text
        assert CHINESE.search(said), said
        assert not re.search(r"[A-Za-z]{2,}", re.sub(names, "", said)), said
        numbers = re.compile(r"\d+(?:\.\d+)?")
        assert set(numbers.findall(said)) <= set(numbers.findall(text)) | {"0.25", "7", "90"}, (text, said)
        assert Words("en").said(text) is None  # English stays as it is


def test_what_stands_in_a_place_is_told_too_and_what_is_not_known_stays():
    words = Words("zh")
    assert words.said("log-loss gain +0.1; its lower end must be above 0") == "对数损失增益 +0.1；区间下限须大于 0"
    assert words.said("nothing of the kind") is None
    assert words.said("passed\nnothing of the kind") == "通过\nnothing of the kind"
    assert words.meaning("purchases of the category 'tea {x}' in the last 90 days") == "最近 90 天购买品类 'tea {x}' 的次数"


def test_the_gates_rules_have_names():
    """Each rule that a file of training names has a name in both languages."""
    folder = Path(training.__file__).parent
    written = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    rules = set(re.findall(r'Reason\(\s*"([^"{]+)"', written)) | set(re.findall(r'_above_zero\("([^"{]+)"', written))
    assert len(rules) > 10
    for language in LANGUAGES:
        assert {rule for rule in rules if Words(language).known("gate", rule) is None} == set()
