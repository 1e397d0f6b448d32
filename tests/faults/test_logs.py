"""F18, F19: logs that cannot be written and clocks that jump stop no answer; what is logged names nobody; workers count together."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from features.logs import JsonLines
from serving import lines
from serving.border.keys import create_key
from serving.ledger import Ledger
from serving.lines import Background
from serving.metrics import REGISTRY

PATH, MARKER = "/v1/scores/repeat_order", "secret-marker"
ALL = {"ENCORE_ACCESS_LOG": "all"}

# The clock that the service sees is off by the number of seconds in a file, which changes while it runs.
JUMPING = """
import datetime, pathlib, time
import serving.workers, serving.app, serving.border.once, serving.routes
def shift():
    return float(pathlib.Path(sys.argv[1], "shift").read_text())
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(told() + shift(), tz)
told = time.time
time.time = lambda: told() + shift()
for name, module in list(sys.modules.items()):
    if name.startswith("serving.") and getattr(module, "datetime", None) is datetime.datetime:
        module.datetime = Jumping
"""


def ask_often(live, times, target):
    """Statuses of many requests over one connection."""
    request = f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    with live.connect() as connection:
        answers = b""
        for _ in range(times // 50):
            connection.sendall(request * 50)
            while answers.count(b"HTTP/1.1 ") < 50 or not answers.endswith(b"}"):
                answers += connection.recv(1_000_000)
            assert answers.count(b"HTTP/1.1 200 OK") == 50
            answers = b""


# --- the access log ------------------------------------------------------------------------------------------------------------


def test_a_request_has_a_line_that_says_what_it_was_and_not_about_whom(start_service, tmp_path):
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        key = create_key(ledger, "crm", ["admin"], days=30)
    with (tmp_path / "access.log").open("wb") as out, start_service(tmp_path, environment=ALL, stdout=out) as live:
        headers = {"x-api-key": key, "x-request-id": "mine-1"}
        answer = live.get(f"{PATH}/{MARKER}", headers)
        live.ask("POST", PATH, {"user_ids": [MARKER]}, headers)
        live.get(f"{PATH}/{MARKER}", {"x-request-id": f"{MARKER}@example.org"})
        live.get(f"/{MARKER}?{MARKER}={MARKER}", headers)
        live.process.send_signal(signal.SIGTERM)
        live.process.wait(20)
    text = (tmp_path / "access.log").read_text()
    found = [line for line in map(json.loads, text.splitlines()) if line["route"] != "/health/live"]
    first, second, third, fourth = found
    assert set(first) == {"time", "level", "message", "route", "method", "status", "ms", "bytes", "key", "request_id"}
    assert (first["route"], first["method"], first["status"], first["bytes"]) == ("/v1/scores/{task}/{user_id}", "GET", 200, len(answer.body))
    assert (first["key"], first["request_id"], 0 < first["ms"] < 60_000) == (key[4:16], "mine-1", True)
    assert (second["route"], second["method"]) == ("/v1/scores/{task}", "POST")
    assert (third["status"], third["key"], re.fullmatch("[0-9a-f]{32}", third["request_id"]) is not None) == (401, None, True)
    assert (fourth["route"], fourth["status"]) == ("none", 404)
    for secret in (MARKER, key[17:], "127.0.0.1"):
        assert secret not in text
        assert secret not in live.errors.read_text()


def test_a_pipe_that_nobody_reads_stops_no_answer_and_no_end(start_service, tmp_path):
    reading, writing = os.pipe()
    shared = "import os; os.dup2(1, 2)"  # the service's own log goes there, too
    try:
        with start_service(tmp_path, before=shared, environment=ALL, stdout=writing) as live:
            ask_often(live, 1_000, f"{PATH}/user-000001")
            end = time.monotonic() + 20
            while live.metric('encore_log_lines_dropped_total{log="access"}') == 0:
                assert time.monotonic() < end, "nothing was dropped"
                time.sleep(0.1)
            assert live.get("/health/ready").status == 200
            live.process.send_signal(signal.SIGTERM)
            assert live.process.wait(20) in (0, -signal.SIGTERM)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("fault", ["the reader is gone", "the disk is full", "the file was closed"])
def test_lines_that_cannot_be_written_are_counted_and_raise_nothing(fault):
    if fault == "the disk is full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, descriptor = os.pipe()
        os.close(reading)
    before = REGISTRY.get_sample_value("encore_log_lines_dropped_total", {"log": "lost"}) or 0
    handler = Background(descriptor, "lost", JsonLines())
    if fault == "the file was closed":
        os.close(descriptor)
    for number in range(100):
        handler.handle(logging.makeLogRecord({"msg": str(number)}))
    handler.stop()
    assert REGISTRY.get_sample_value("encore_log_lines_dropped_total", {"log": "lost"}) - before == 100
    if fault != "the file was closed":
        os.close(descriptor)


def test_who_reads_again_gets_whole_lines(monkeypatch):
    monkeypatch.setattr(lines, "PATIENCE", 50)
    reading, writing = os.pipe()
    before = REGISTRY.get_sample_value("encore_log_lines_dropped_total", {"log": "test"}) or 0
    handler, log = Background(writing, "test", JsonLines()), logging.getLogger("test of lines")
    log.propagate, log.handlers = False, [handler]
    log.setLevel(logging.INFO)
    for number in range(2_000):
        log.info(str(number), extra={"facts": {"filler": "x" * 100}})
    time.sleep(0.5)
    held = os.read(reading, 1_000_000)
    log.info("read again")
    time.sleep(0.2)
    handler.stop()
    os.close(writing)
    while part := os.read(reading, 1_000_000):
        held += part
    os.close(reading)
    told = [json.loads(line)["message"] for line in held.decode().splitlines()]
    dropped = REGISTRY.get_sample_value("encore_log_lines_dropped_total", {"log": "test"}) - before
    assert (told[0], told[-1], len(told) + dropped) == ("0", "read again", 2_001)
    assert dropped > 0


def test_beyond_what_may_wait_lines_are_dropped(monkeypatch):
    monkeypatch.setattr(lines, "MOST_WAITING", 10)
    monkeypatch.setattr(lines, "PAUSE", 30.0)
    reading, writing = os.pipe()
    handler = Background(writing, "crowd", JsonLines())
    for number in range(15):
        handler.handle(logging.makeLogRecord({"msg": str(number)}))
    handler.stop()
    os.close(writing)
    with os.fdopen(reading) as read:
        assert [json.loads(line)["message"] for line in read] == [str(number) for number in range(10)]
    assert REGISTRY.get_sample_value("encore_log_lines_dropped_total", {"log": "crowd"}) == 5


# --- F19 ----------------------------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_on_a_host_in_another_zone_gives_no_negative_age_and_no_fault(start_service, tmp_path):
    (tmp_path / "shift").write_text("0")
    with start_service(tmp_path, before=JUMPING, environment={"TZ": "Pacific/Kiritimati"}) as live:
        for hours, status, ready in ((0, "OK", "ready"), (24, "OK", "ready"), (-24, "OK", "ready"), (49, "STALE", "stale"), (-48, "OK", "ready")):
            (tmp_path / "shift").write_text(str(hours * 3600))
            scores = live.post(PATH, {"user_ids": [f"user-{number:06}" for number in range(300)]}).json["scores"]
            assert {"OK", "STALE"} & {score["status"] for score in scores} == {status}
            one = live.get(f"{PATH}/user-000001")
            assert (one.status, 0 <= int(re.search("max-age=(-?[0-9]+)", one.headers["cache-control"])[1]) <= 60) == (200, True)
            assert live.get("/health/ready").json["status"] == ready
            ages = [line for line in live.get("/metrics").body.decode().splitlines() if re.match("encore_[a-z]+_age_seconds", line)]
            assert len(ages) >= 5
            assert all(float(line.rpartition(" ")[2]) >= 0 for line in ages)
            made = live.ask("POST", "/v1/audiences", {"task": "churn", "top_n": 3}, {"idempotency-key": f"hours {hours}"})
            assert made.status == 200
            assert live.get("/v1/journeys/churn/user-000001").status == 200
    assert "Traceback" not in Path(live.errors).read_text()


# --- several processes ----------------------------------------------------------------------------------------------------------


def test_counters_of_several_processes_add_up(published, tmp_path):
    counts = "from serving.metrics import SCORES; SCORES.labels('churn', 'OK', '1').inc(3)"
    asks = "import sys; from datetime import timedelta; from pathlib import Path; from serving.current import Current; from serving.metrics import exposition"
    shown = f"{asks}; found = Current(Path(sys.argv[1]), timedelta(hours=48)); found.refresh(); print(exposition(found).decode())"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", counts], env=environment, check=True)
    text = subprocess.run([sys.executable, "-c", shown, str(published.root)], env=environment, check=True, capture_output=True, text=True).stdout
    assert 'encore_scores_total{status="OK",task="churn",version="1"} 6.0' in text
    assert "encore_release_swaps_total 1.0" in text
    assert "encore_release_age_seconds" in text
    assert "pid=" not in text


@pytest.mark.long
def test_whichever_worker_is_asked_tells_of_all(start_service, tmp_path):
    with start_service(tmp_path, arguments=("--workers", "2")) as live:
        end = time.monotonic() + 60
        while live.get("/health/ready").status != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        for _ in range(60):
            live.get(f"{PATH}/nobody")
        counted = {live.metric('encore_scores_total{status="NOT_FOUND",task="repeat_order"') for _ in range(10)}
        assert counted == {60.0}
        text = live.get("/metrics").body.decode()
        assert 'encore_request_seconds_count{route="/v1/scores/{task}/{user_id}"} 60.0' in text
        assert "encore_feature_age_seconds" in text
        assert "pid=" not in text
        live.process.send_signal(signal.SIGTERM)
        assert live.process.wait(30) in (0, -signal.SIGTERM)
