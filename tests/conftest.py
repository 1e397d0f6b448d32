"""Tables small enough to check in the head, as a log and as a snapshot."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

import pandas as pd
import pytest
from fastapi import FastAPI

from features.events import EventLog
from features.files import digest_of, exclusive
from features.ingest import ingest_sources
from features.shop import SimulatedShop, simulate
from features.shopfile import Shop
from features.snapshot import Snapshot
from features.sources.batch import Batch, canonical_events, canonical_products
from features.store import SnapshotStore
from features.tiles import open_tiles
from features.workspace import Workspace, open_workspace
from serving.app import ServiceSettings, create_app
from serving.facts import facts_of, histories_behind
from serving.journeys.known import KnownAudiences
from serving.ledger import Ledger
from serving.pointer import point_to
from serving.release import write_release
from training.bundle import Bundle
from training.commands import run_retrain
from training.examples import make_examples
from training.fit import core_of
from training.models import Recipe
from training.pack import make_bundle
from training.prepare import first_day
from training.task import AskedTask
from training.tasks import TASKS

SOMEDAY = date(2024, 12, 1)  # later than the cutoffs of tables that are checked in the head
MakeLog = Callable[..., EventLog]
MakeSnapshot = Callable[..., Snapshot]


@pytest.fixture(scope="session")
def shop() -> Shop:
    return Shop("Test shop", "UTC", "EUR", attributes=("age",))


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """Events as dictionaries -> Batch. Times are text in UTC; equal dictionaries are the same event; the user is "u", unless
    the event has ids of its own: user_id, anonymous_id or both."""

    def make(
        events: Sequence[dict[str, Any]], products: Sequence[dict[str, Any]] = (), complete_until: date | None = None, written: str | None = None
    ) -> Batch:
        rows = pd.DataFrame([{**_user_of(event), "event_id": digest_of(event), "known_at": event["occurred_at"], **event} for event in events])
        for name in ("occurred_at", "known_at"):
            rows[name] = pd.to_datetime(rows[name], format="ISO8601", utc=True).dt.as_unit("us")
        until = complete_until or max(rows["occurred_at"].max().date() + timedelta(days=1), SOMEDAY)
        known = canonical_products(pd.DataFrame(list(products))) if products else None
        return Batch("test", canonical_events(rows), until, known, written=pd.Timestamp(written, tz="UTC") if written else None)

    return make


def _user_of(event: Mapping[str, Any]) -> dict[str, str]:
    return {} if event.keys() & {"user_id", "anonymous_id"} else {"user_id": "u"}


@pytest.fixture(scope="session")
def make_log(tmp_path_factory: pytest.TempPathFactory, make_batch: Callable[..., Batch], shop: Shop) -> MakeLog:
    """Events as dictionaries -> a new EventLog that holds them."""

    def make(events: Sequence[dict[str, Any]], products: Sequence[dict[str, Any]] = (), complete_until: date | None = None, zone: str = shop.zone) -> EventLog:
        log = EventLog(tmp_path_factory.mktemp("log"), zone, shop.currency)
        log.append(make_batch(events, products, complete_until))
        return log

    return make


@pytest.fixture(scope="session")
def make_snapshot(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> MakeSnapshot:
    """A log and a date -> Snapshot."""

    def make(log: EventLog, as_of: date, threads: int = 1) -> Snapshot:
        folder = tmp_path_factory.mktemp("made")
        return SnapshotStore(folder / "snapshots").get(open_tiles(log, shop, folder / "tiles"), as_of, threads)

    return make


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """`oracle.py` beside this file: what each feature means, in plain Python."""
    spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def simulated() -> SimulatedShop:
    """2,000 users over 400 days; nobody may change it."""
    return simulate(users=2000, days=400, seed=1)


# --- serving --------------------------------------------------------------------------------------------------------

HORIZONS = {"repeat_order": 30, "churn": 60, "lookalike": 90}


@dataclass(frozen=True)
class Published:
    """Two releases of one small shop: the same users, other models. Nobody may change the folder; `releases` is a copy.

    first, second: their ids; the pointer names `second`. bundles: task -> the model in `second`.
    """

    root: Path
    first: str
    second: str
    snapshot: Snapshot
    bundles: Mapping[str, Bundle]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls a service in process, byte for byte: no client library tidies the path or the body.

    Args:
        app: the service.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def get(self, target: str) -> Answer:
        return self.request("GET", target)

    def delete(self, target: str) -> Answer:
        return self.request("DELETE", target)

    def post(self, target: str, value: Any = None) -> Answer:
        """Post a value as JSON; bytes go as they are, other iterables of bytes in chunks of unannounced length."""
        raw = value if isinstance(value, bytes) or hasattr(value, "__next__") else json.dumps(value).encode()
        return self.request("POST", target, raw, {"content-type": "application/json"})

    def request(self, method: str, target: str, body: bytes | Iterable[bytes] = b"", headers: Mapping[str, str] | None = None) -> Answer:
        path, _, query = target.partition("?")
        chunks = iter([body] if isinstance(body, bytes) else body)
        length = {"content-length": str(len(body))} if isinstance(body, bytes) else {"transfer-encoding": "chunked"}
        sent: list[Mapping[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            chunk = next(chunks, None)
            return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),  # as uvicorn does it
            "raw_path": path.encode("ascii"),
            "root_path": "",
            "query_string": query.encode("ascii"),
            "headers": [(name.encode(), text.encode()) for name, text in {"host": "shop.test", **length, **(headers or {})}.items()],
            "client": ("127.0.0.1", 1),
            "server": ("shop.test", 80),
        }
        asyncio.run(self.app(scope, receive, send))  # type: ignore[arg-type]
        return Answer(
            sent[0]["status"],
            {name.decode(): text.decode() for name, text in sent[0]["headers"]},
            b"".join(message.get("body", b"") for message in sent[1:]),
        )


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("published")
    log = EventLog(root / "log", "UTC", "EUR")
    log.append(simulate(users=700, days=300, seed=3).batch)
    tiles, store = open_tiles(log, Shop("Small shop", "UTC", "EUR", attributes=("age",)), root / "tiles"), SnapshotStore(root / "snapshots")
    snapshot = store.get(tiles, log.complete_until)
    cutoffs = [log.complete_until - timedelta(days=days) for days in (140, 100, 60)]
    tasks = [AskedTask(TASKS[name], horizon, horizon) for name, horizon in HORIZONS.items()]
    examples = {asked.name: make_examples(asked, cutoffs, first_day(tiles), tiles, store) for asked in tasks}
    ids, bundles = [], {}
    for trees in (20, 30):
        models = {}
        for asked in tasks:
            name = asked.name
            bundles[name] = make_bundle(asked, examples[name], tiles, examples[name].names, core_of(asked, Recipe(trees=trees, seeds=2)))
            facts = {"version": str(trees), "run_id": "run", "kind": "model", "decision": "Better than the baselines.", "metrics": {"model": {}}}
            models[name] = (bundles[name], asked.eligible(snapshot.frame).to_numpy(dtype=bool), facts | {"asks": asked.condition(snapshot.frame)})
        about = {"scored_at": datetime.now(UTC).isoformat(timespec="seconds")}
        told = facts_of(tiles, snapshot)
        kept = histories_behind(tiles, snapshot, told, models)
        ids.append(write_release(root / "releases", snapshot, models, about, facts=told, histories=kept))
        point_to(root / "releases", ids[-1])
    return Published(root / "releases", ids[0], ids[1], snapshot, bundles)


@pytest.fixture
def releases(published: Published, tmp_path: Path) -> Path:
    """A copy of the published releases, to be broken at will."""
    return Path(shutil.copytree(published.root, tmp_path / "releases"))


@pytest.fixture(scope="session")
def serve() -> Callable[..., Client]:
    """A folder of releases and a folder for the ledger -> Client of a service that has looked at the pointer once."""

    def start(root: Path, ledger: Path, good_for: timedelta = timedelta(hours=48)) -> Client:
        app = create_app(ServiceSettings(root, f"sqlite:///{ledger / 'ledger.db'}", good_for))
        app.state.current.refresh()
        return Client(app)

    return start


@pytest.fixture(scope="session")
def shared_client(published: Published, serve: Callable[..., Client], tmp_path_factory: pytest.TempPathFactory) -> Client:
    return serve(published.root, tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def client(shared_client: Client, tmp_path: Path) -> Client:
    """A service over the published releases, with an empty ledger."""
    shared_client.app.state.ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    shared_client.app.state.journeys = replace(shared_client.app.state.journeys, known=KnownAudiences())
    return shared_client


# --- a database -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PostgresServer:
    """A cluster of its own on a free port of 127.0.0.1, with the user `encore`."""

    port: int
    password: str = "p@ss/w:rd"

    @property
    def url(self) -> str:
        return f"postgresql://encore:{quote(self.password, safe='')}@127.0.0.1:{self.port}/postgres"

    def run(self, statements: str) -> None:
        import psycopg

        with psycopg.connect(host="127.0.0.1", port=self.port, user="encore", password=self.password, dbname="postgres", autocommit=True) as connection:
            connection.execute(statements)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL; CI has to have its programs, a laptop need not."""
    found = [Path(path).parent for path in (*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True), shutil.which("initdb")) if path]
    if not found:
        missing = "PostgreSQL is not installed here (apt-get install postgresql): what needs it is not tested"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="encore-postgres-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = PostgresServer(probe.getsockname()[1])
    is_root = os.geteuid() == 0  # initdb refuses root
    user = ["runuser", "-u", "postgres", "--"] if is_root else []
    (folder / "password").write_text(server.password)
    if is_root:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
    initdb = [str(found[0] / "initdb"), "-D", str(folder / "data"), "-U", "encore", f"--pwfile={folder / 'password'}", "-A", "scram-sha-256", "-N"]
    options = f"-c listen_addresses=127.0.0.1 -c port={server.port} -c unix_socket_directories= -c fsync=off"
    control = [str(found[0] / "pg_ctl"), "-D", str(folder / "data"), "-w"]
    try:
        subprocess.run([*user, *initdb], check=True, capture_output=True, cwd=folder)
        subprocess.run([*user, *control, "-o", options, "-l", str(folder / "log"), "start"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        yield server
    finally:
        subprocess.run([*user, *control, "-m", "immediate", "stop"], check=False, capture_output=True, cwd=folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger that nobody has begun: once for each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"ledger_{uuid.uuid4().hex}"
    server.run(f"create database {name}")
    return f"{server.url.rpartition('/')[0]}/{name}"


# --- the whole way --------------------------------------------------------------------------------------------------

SMALL_SHOP = """
name = "Small shop"
zone = "UTC"
currency = "EUR"
attributes = ["age"]
tasks = ["repeat_order"]

[[sources]]
kind = "simulated"
users = 1000
days = 400
seed = 1

[horizons]
repeat_order = 30
"""


@pytest.fixture(scope="session")
def small_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small shop by the real commands: ingested, trained, logged to MLflow on SQLite, published.

    Nobody may change it. A copy serves and builds, but its registry still points at the artifacts of the original.
    """
    from serving.publish import publish  # brings mlflow, which most tests do without

    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder  # made once, however many processes test
    workspace = open_workspace(shared / "small" / "workspace", environment={})
    with exclusive(shared / "small.lock", "The small shop of the tests", wait=True):
        if not (shared / "small" / "made").exists():
            workspace.root.mkdir(parents=True)
            workspace.shop_file.write_text(SMALL_SHOP)
            ingest_sources(workspace)
            run_retrain(workspace)
            publish(workspace)
            (shared / "small" / "made").touch()
    return workspace


# --- who gets exports -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Receiver:
    """A running receiver. url: its address; got: what it was sent, in order, as `receivers/server.py` writes it."""

    url: str
    file: Path

    @property
    def got(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request["body"]) for request in self.got if "body" in request]


@pytest.fixture
def receive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Receiver]]:
    """A plan (see `receivers/server.py`) -> a Receiver in a process of its own, at an address that the operator allows."""
    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setenv("ENCORE_ALLOWED_HOSTS", "127.0.0.1,receiver.test")

    def start(plan: Mapping[str, Any] | None = None, certificate: Sequence[Path] = ()) -> Receiver:
        folder = tmp_path / f"receiver-{len(started)}"
        folder.mkdir()
        script = Path(__file__).parent / "receivers" / "server.py"
        started.append(subprocess.Popen([sys.executable, script, folder / "port", folder / "got", json.dumps(plan or {}), *certificate]))
        while not (folder / "port").exists():
            assert started[-1].poll() is None
            time.sleep(0.01)
        return Receiver(f"http{'s' if certificate else ''}://127.0.0.1:{(folder / 'port').read_text()}/in", folder / "got")

    yield start
    for process in started:
        process.kill()
        process.wait()
