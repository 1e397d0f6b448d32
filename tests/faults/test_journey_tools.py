"""Journey tools as they really call: Salesforce's whole sequence, and many templates at once with two seconds' patience, while things break."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import shutil
import signal
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from serving.pointer import current_id, point_to

KEY = "the JWT Signing Secret of an installed package"


# --- Salesforce Journey Builder -----------------------------------------------------------------------------------------------


class JourneyBuilder:
    """Salesforce's side of a custom activity: reads config.json, keeps the activity as its page leaves it, signs what it sends.

    A journey whose save, validate or publish is not answered 200 is not published; a contact whose execute is not answered 200, in time, with
    a branch that the activity has, is ejected.
    """

    def __init__(self, live):
        self.live, self.ejected = live, []
        self.activity = live.get("/v1/journeys/sfmc/config.json", {"host": "encore.example.com"}).json
        self.ids = {"activityObjectID": str(uuid.uuid4()), "interactionId": str(uuid.uuid4()), "interactionVersion": "1"}

    def configure(self, audience, branches):
        """As the configuration page does it."""
        self.activity["arguments"]["execute"]["inArguments"] = [{"audience": audience, "branches": branches, "user_id": "{{Contact.Key}}"}]
        for call in self.activity["configurationArguments"].values():
            call["url"] = f"{call['url'].split('?')[0]}?audience={audience}&branches={branches}"

    def call(self, told, said, seconds=30.0):
        assert told["useJwt"]
        path = told["url"].removeprefix("https://encore.example.com")
        start = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256", "typ": "JWT"}, said))
        body = start + b"." + base64.urlsafe_b64encode(hmac.digest(KEY.encode(), start, "sha256")).rstrip(b"=")
        return self.live.ask("POST", path, body, {"content-type": "application/jwt"}, timeout=seconds)

    def step(self, name):
        return self.call(self.activity["configurationArguments"][name], self.ids).status

    def publish(self):
        """How far it comes."""
        for name in ("save", "validate", "publish"):
            if self.step(name) != 200:
                return name
        return "published"

    def enter(self, contact):
        """A contact reaches the activity; returns the branch."""
        execute = self.activity["arguments"]["execute"]
        resolved = [{name: value.replace("{{Contact.Key}}", contact) for name, value in part.items()} for part in execute["inArguments"]]
        said = {**self.ids, "journeyId": self.ids["interactionId"], "definitionInstanceId": str(uuid.uuid4()), "keyValue": contact, "mode": 0}
        answer = self.call(execute, {**said, "inArguments": resolved, "outArguments": []}, execute["timeout"] / 1_000)
        branch = answer.json.get("branchResult")
        if answer.status != 200 or branch not in {outcome["arguments"]["branchResult"] for outcome in self.activity["outcomes"]}:
            self.ejected.append(contact)
        return branch


@pytest.fixture(scope="module")
def live(start_service, tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("tools"), environment={"ENCORE_SFMC_JWT_KEY": KEY}) as live:
        yield live


def test_a_journey_is_built_published_run_and_stopped(live, published):
    live.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "at-risk"})
    members = set(live.get("/v1/audiences/at-risk/members").json["user_ids"])
    builder = JourneyBuilder(live)
    assert builder.publish() == "validate", "nothing was chosen yet"
    builder.configure("at-rsik", "audience")
    assert builder.publish() == "validate", "there is no such audience"
    builder.configure("at-risk", "audience")
    assert builder.publish() == "published"
    contacts = [*published.snapshot.user_ids[::25], *sorted(members)[:5], "a stranger"]
    branches = {contact: builder.enter(contact) for contact in contacts}
    again = {contact: builder.enter(contact) for contact in contacts}
    assert branches == again
    assert branches == {**{contact: "in" if contact in members else "out" for contact in contacts}, "a stranger": "fallback"}
    assert {builder.step("stop") for _ in range(2)} == {200}
    assert builder.ejected == []
    (told,) = [one for one in live.get("/v1/journeys/sfmc/activities").json if one["activity"] == builder.ids["activityObjectID"]]
    assert (told["audience"], told["state"]) == ("at-risk", "stopped")


def test_contacts_go_on_while_the_release_and_the_ledger_are_gone(start_service, published, tmp_path):
    (tmp_path / "releases").mkdir()
    with start_service(tmp_path, environment={"ENCORE_SFMC_JWT_KEY": KEY}) as live:
        builder = JourneyBuilder(live)
        builder.configure("churn", "prediction")
        assert (builder.publish(), builder.enter("user-000001")) == ("validate", "fallback")
        shutil.copytree(published.root, tmp_path / "releases", dirs_exist_ok=True)
        until(lambda: live.get("/health/ready").status == 200)
        (tmp_path / "ledger.db").unlink(missing_ok=True)
        (tmp_path / "ledger.db").mkdir()
        assert builder.publish() == "save"
        branches = Counter(builder.enter(user) for user in published.snapshot.user_ids[::40])
        assert set(branches) <= {"low", "medium", "high", "fallback"}
        assert branches["medium"]
        assert builder.step("stop") == 200
        assert builder.ejected == []


# --- Braze Connected Content ----------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """What a template got. seconds: of the try that succeeded."""

    recipient: str
    answer: dict
    seconds: float
    tries: int


class Braze:
    """Connected Content: two seconds for an answer, up to five tries after 5xx, and often more than one call for one recipient."""

    def __init__(self, port, calls=2, at_once=24):
        self.port, self.calls, self.at_once = port, calls, at_once
        self.failed, self.slow = [], 0

    async def send(self, audience, recipients):
        """Ask for every recipient as often as templates do; returns what they got."""
        gate = asyncio.Semaphore(self.at_once)
        limits = httpx.Limits(max_connections=self.at_once)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=2.0, limits=limits) as client:

            async def ask(recipient):
                async with gate:
                    for attempt in range(1, 6):
                        began = time.perf_counter()
                        try:
                            answer = await client.get(f"/v1/journeys/{audience}/{recipient}")
                        except httpx.TimeoutException:
                            self.slow += 1
                            continue
                        if answer.status_code < 500:
                            assert answer.status_code == 200
                            return Told(recipient, answer.json(), time.perf_counter() - began, attempt)
                    return self.failed.append(recipient)

            return [told for told in await asyncio.gather(*(ask(one) for one in recipients for _ in range(self.calls))) if told]

    def campaign(self, audience, recipients):
        return asyncio.run(self.send(audience, recipients))

    @property
    def trouble(self):
        return self.failed, self.slow


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def agree(told):
    """Every call for one recipient, of one release, got the same answer."""
    seen = {}
    for one in told:
        assert seen.setdefault((one.recipient, one.answer["release"], one.answer["status"]), one.answer) == one.answer
    return seen


def test_many_templates_get_one_answer_for_each_recipient_within_two_seconds(live, published):
    live.post("/v1/audiences", {"task": "churn", "top_percent": 30, "name": "braze"})
    members, recipients = set(live.get("/v1/audiences/braze/members").json["user_ids"]), list(published.snapshot.user_ids)[::5]
    braze = Braze(live.port)
    told = braze.campaign("braze", recipients)
    assert len(told) == 2 * len(recipients)
    agree(told)
    assert {one.recipient for one in told if one.answer["branch"] == "in"} == members & set(recipients)
    assert braze.trouble == ([], 0)


@contextmanager
def stopped(server):
    """All processes of a PostgreSQL stopped where they are: connections stay open, and nothing is answered."""
    with psycopg.connect(server.url) as connection:
        postmaster = parent(connection.execute("select pg_backend_pid()").fetchone()[0])
    everybody = [postmaster, *(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and parent(entry.name) == postmaster)]
    for process in everybody:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in everybody:
            os.kill(process, signal.SIGCONT)


def parent(process):
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_a_ledger_that_hangs_and_releases_that_change_reach_no_template(start_service, published, postgres_server, tmp_path):
    name = f"ledger_{uuid.uuid4().hex}"
    postgres_server.run(f"create database {name}")
    url = f"{postgres_server.url.rpartition('/')[0]}/{name}"
    recipients = list(published.snapshot.user_ids)[::12]
    with start_service(tmp_path, environment={"ENCORE_LEDGER_URL": url}) as live:
        live.post("/v1/audiences", {"task": "churn", "top_n": 100, "name": "vip"})
        live.post("/v1/audiences", {"task": "churn", "top_n": 50, "name": "never-asked"})
        braze = Braze(live.port)
        first = agree(braze.campaign("vip", recipients))
        with stopped(postgres_server):
            assert agree(braze.campaign("vip", recipients)) == first
            root = tmp_path / "releases"
            other = next(one for one in (published.first, published.second) if one != current_id(root))
            point_to(root, other)
            until(lambda: live.get("/v1/journeys/churn/nobody").json["release"] == other)
            after = braze.campaign("vip", recipients)
            assert {one.answer["release"] for one in after} == {other}
            assert {one.answer["branch"] for one in after} == {"in", "out"}
            agree(after)
            strangers = braze.campaign("never-asked", recipients[:15])
            assert {(one.answer["branch"], one.answer["status"]) for one in strangers} == {("fallback", "UNAVAILABLE")}
            assert max(one.seconds for one in strangers) < 2
            assert {one.answer["branch"] for one in braze.campaign("churn", recipients[:15])} <= {"low", "medium", "high", "fallback"}
        assert braze.trouble == ([], 0)
        until(lambda: live.get(f"/v1/journeys/never-asked/{recipients[0]}").json["branch"] in ("in", "out"))


@pytest.mark.long
def test_a_flood_of_templates_through_twenty_swaps_and_a_hanging_ledger(start_service, published, postgres_server, tmp_path):
    name = f"ledger_{uuid.uuid4().hex}"
    postgres_server.run(f"create database {name}")
    url = f"{postgres_server.url.rpartition('/')[0]}/{name}"
    recipients, root = list(published.snapshot.user_ids), tmp_path / "releases"
    with start_service(tmp_path, environment={"ENCORE_LEDGER_URL": url}) as live:
        live.post("/v1/audiences", {"task": "churn", "top_n": 100, "name": "vip"})
        braze, told = Braze(live.port, calls=3, at_once=64), []
        told += braze.campaign("vip", recipients)
        for number in range(20):
            point_to(root, (published.first, published.second)[number % 2])
            if number % 4 == 3:
                with stopped(postgres_server):
                    told += braze.campaign("vip", recipients)
            else:
                told += braze.campaign("vip", recipients)
        agree(told)
        assert braze.trouble == ([], 0)
        assert {one.answer["status"] for one in told} <= {"OK", "NOT_ELIGIBLE"}
        assert {one.answer["release"] for one in told} == {published.first, published.second}
