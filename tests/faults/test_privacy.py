"""F45: after a deletion the id is in no file and in no table, whatever is decoded; and no rebuild, rollback, backup or new data bring it back."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from features.files import parquet_bytes, read_json, sha256_of, write_json
from features.ingest import ingest_sources
from serving.audiences.members import save
from serving.audiences.rules import Rule
from serving.jobs import Jobs
from serving.ledger import METADATA, Ledger
from serving.migrations import all_tables
from serving.pointer import current_id, directory_of, rollback
from serving.privacy.delete import delete
from serving.privacy.export import export
from serving.privacy.needles import Needles
from serving.privacy.people import platform_hash
from serving.privacy.register import agree, listed
from serving.privacy.releases import erase_from_releases
from serving.privacy.search import search
from serving.release import check_release, load_release
from serving.runs import MANIFEST, score_run
from serving.scorer import Scorer
from serving.tombstones import tombstone
from serving.work import work
from training.lookalike.seed import Seed, seed_digest
from training.lookalike.seed_store import save_seed

VISITOR = "visitor-7d1b88c4"
SOURCE = '\n[[sources]]\nkind = "segment"\npath = "raw/*.jsonl*"\n'


# --- a full workspace -----------------------------------------------------------------------------------------------


def someone(workspace):
    """Somebody whom the release scores."""
    release = load_release(directory_of(workspace.releases, current_id(workspace.releases)))
    score = release.scores["repeat_order"].score
    return release, release.users[int((score == score).nonzero()[0][7])].decode()


def raw_lines(user):
    """The visitor came, and turned out to be the user."""
    told = [{"messageId": f"m{number}", "anonymousId": VISITOR, "timestamp": f"2025-01-0{number}T08:00:00.000Z"} for number in (1, 2)]
    page = {"type": "page", "context": {"page": {"url": "https://shop.example/"}}}
    other = {**told[0], **page, "messageId": "m3", "anonymousId": "somebody-else"}
    return "".join(json.dumps(line) + "\n" for line in ({**told[0], **page}, {**told[1], "type": "identify", "userId": user}, other))


def value_of(column, user):
    """Something that fits a column."""
    if column.name == "user_id":
        return user
    kinds = ((sa.JSON, {"members": [user, "user-x"], "rows": [{"user_id": user, "n": 1}]}), (sa.LargeBinary, json.dumps({"user_id": user}).encode()))
    kinds += ((sa.DateTime, datetime.now(UTC)), (sa.Date, date(2025, 1, 1)), (sa.Boolean, True), (sa.Float, 0.5), (sa.Integer, 7), (sa.String, "x"))
    return next(value for kind, value in kinds if isinstance(column.type, kind))


def fill_ledger(ledger, user):
    """A row in every table that has users, whatever tables there are, and ids in JSON, in kept answers and in a queued job."""
    all_tables()
    with ledger.connection() as connection:
        for table in METADATA.sorted_tables:
            if "user_id" in table.c or table.name == "idempotency_keys":
                connection.execute(table.insert().values(**{column.name: value_of(column, user) for column in table.c}))
    Jobs(ledger).queue("lookalike", {"name": "best", "seed": {"user_ids": [user, VISITOR, "user-x"]}})


def fill(workspace, ledger):
    """Put a user and a visitor wherever a workspace has room for one; returns the user."""
    release, user = someone(workspace)
    raw = workspace.root / "raw"
    raw.mkdir()
    (raw / "a.jsonl").write_text(raw_lines(user))
    (raw / "b.jsonl.gz").write_bytes(gzip.compress(raw_lines(user).replace('Id": "m', 'Id": "n').encode()))
    workspace.shop_file.write_text(workspace.shop_file.read_text() + SOURCE)
    ingest_sources(workspace)
    score_run(Scorer(release, timedelta(days=1)), workspace.root / "scores")
    save(ledger, release, "everybody", Rule(task="repeat_order", top_percent=100.0), "snapshot")
    fill_ledger(ledger, user)
    seed = Seed("best", date(2025, 1, 1), (user, "user-x"), ("user-y",), {"kind": "list"}, "")
    save_seed(workspace.root / "seeds", replace(seed, digest=seed_digest(seed)))
    exports, others = workspace.exports, pa.table({"user_id": [user, "user-x"], "score": [1.0, 2.0]})
    exports.mkdir()
    (exports / "a.csv").write_text(f'"user_id","score"\n"{user}","1"\n"user-x","2"\n')
    (exports / "meta.csv").write_text(f"extern_id,lookalike\n{platform_hash(user)},1\n{platform_hash('user-x')},2\n")
    (exports / "b.parquet").write_bytes(parquet_bytes(others))
    (exports / "c.csv.gz").write_bytes(gzip.compress(f"user_id\n{user}\nuser-x\n".encode()))
    with pa.CompressedOutputStream(str(exports / "d.jsonl.zst"), "zstd") as packed:
        packed.write(f'{{"userId": "{user}"}}\n{{"userId": "user-x"}}\n'.encode())
    coded = pa.table({"user": pa.array([user, "user-x"]).dictionary_encode(), "id": pa.array([user.encode().ljust(40, b"\0"), b"x" * 40], pa.binary(40))})
    with pa.ipc.new_file(str(exports / "e.arrow"), coded.schema) as sink:
        sink.write_table(coded)
    with closing(sqlite3.connect(exports / "f.sqlite")) as table:
        table.execute("CREATE TABLE predictive_scores (user_id TEXT, score REAL)")
        table.executemany("INSERT INTO predictive_scores VALUES (?, ?)", [(user, 1), ("user-x", 2)])
        table.commit()
    (exports / "dead.jsonl").write_text(json.dumps({"user_id": user, "reason": "no"}) + "\n" + json.dumps({"user_id": "user-x"}) + "\n")
    (workspace.root / "quarantine").mkdir(exist_ok=True)
    (workspace.root / "quarantine" / "q.csv").write_text(f"file,line,reason,user_id\na,1,bad,{VISITOR}\na,2,bad,x\n")
    (workspace.root / "logs").mkdir()
    (workspace.root / "logs" / "service.log").write_text(f'{{"message": "asked for {user}"}}\nquiet\n')
    (workspace.root / "reports").mkdir(exist_ok=True)
    (workspace.root / "reports" / "r.json").write_text(json.dumps({"best": [user, "user-x"], "n": 2}))
    artifacts = next(workspace.mlflow_artifacts.rglob("evidence.json")).parent
    (artifacts / "examples.json").write_text(json.dumps([{"user_id": user}, {"user_id": "user-x"}]))
    return user


@pytest.fixture
def full(small_workspace, tmp_path, ledger_url):
    """A copy of the small shop, its own registry included, with somebody in every place."""
    root = Path(shutil.copytree(small_workspace.root, tmp_path / "workspace"))
    return replace(small_workspace, root=root, mlflow_uri=f"sqlite:///{root / 'mlflow' / 'mlflow.db'}", ledger_url=ledger_url)


@pytest.fixture
def plain(small_workspace, tmp_path):
    """The same with nobody added, and a ledger in a file."""
    root = Path(shutil.copytree(small_workspace.root, tmp_path / "workspace"))
    return replace(small_workspace, root=root, mlflow_uri=f"sqlite:///{root / 'mlflow' / 'mlflow.db'}", ledger_url=f"sqlite:///{root / 'ledger.db'}")


# --- an oracle that shares nothing with what deletes ------------------------------------------------------------------


def texts_of(content):
    """Everything that can be read in a file's bytes, decoded however they are packed."""
    if content[:4] == b"PAR1":
        yield from (words_of(pq.read_table(io.BytesIO(content))), str(pq.read_schema(io.BytesIO(content)).metadata))
    elif content[:6] == b"ARROW1":
        table = pa.ipc.open_file(io.BytesIO(content)).read_all()
        words = [column.chunk(0).dictionary for column in table.columns if pa.types.is_dictionary(column.type) and column.num_chunks]
        yield from (words_of(table.select([name for name in table.column_names if name != "vector"])), str(words))
    elif content[:2] == b"\x1f\x8b":
        yield from texts_of(gzip.decompress(content))
    elif content[:4] == b"\x28\xb5\x2f\xfd":
        yield from texts_of(pa.CompressedInputStream(io.BytesIO(content), "zstd").read())
    yield content.decode("latin-1")  # pages of SQLite, the freed ones too, and whatever else there is


def words_of(table):
    """Each value once of every column but those of numbers and times, in which no id can be written."""
    words = [column for column in table.columns if not pa.types.is_primitive(column.type)]
    return str([(column if pa.types.is_nested(column.type) else column.unique()).to_pylist() for column in words])


def places_with(root, *ids):
    """The files in which one of the ids can be read."""
    found = set()
    for path in root.rglob("*"):
        if path.is_file() and any(one in text for text in texts_of(path.read_bytes()) for one in ids):
            found.add(str(path.relative_to(root)))
    return found


def tables_with(url, *ids):
    """The tables of a database in which one of the ids can be read."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        rows = {name: [tuple(row) for row in connection.execute(sa.text(f'SELECT * FROM "{name}"'))] for name in names}
    return {name for name, all_rows in rows.items() if any(one in str(row) for row in all_rows for one in ids)}


@pytest.mark.parametrize("ledger_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_after_a_deletion_the_id_is_nowhere_and_the_receipt_says_where_it_was(full):
    with closing(Ledger(full.ledger_url)) as ledger:
        user = fill(full, ledger)
        hidden = (user, VISITOR)
        before, tables = places_with(full.root, *hidden), tables_with(full.ledger_url, *hidden)
        kinds = ("log/", "tiles/", "snapshots/", "releases/", "scores/", "seeds/", "exports/", "quarantine/", "logs/", "reports/", "raw/", "mlflow/artifacts/")
        assert {kind for kind in kinds if any(place.startswith(kind) for place in before)} == {*kinds}
        assert {"audience_members", "campaign_members", "jobs", "idempotency_keys"} <= tables
        assert len([place for place in before if place.startswith("exports/")]) == 7  # all but the hashes
        models = (full.root / "mlflow" / "mlflow.db").read_bytes()

        receipt = delete(full, ledger, [VISITOR], "asked")

        assert (places_with(full.root, *hidden), tables_with(full.ledger_url, *hidden)) == (set(), set())
        assert platform_hash(user) not in (full.exports / "meta.csv").read_text()
        assert (receipt["left"], receipt["unknown"], receipt["given"]) == ({}, 0, 1)
        assert {*receipt["hashes"]} == {tombstone(user.encode()), tombstone(VISITOR.encode())}
        assert [(model["task"], model["champion"]) for model in receipt["models"]] == [("repeat_order", True)]
        assert receipt["erased"]["files in exports, rows"] == 8
        assert (full.root / "mlflow" / "mlflow.db").read_bytes() == models
        # Others are as they were.
        assert len(search(full, Needles(["user-x"])).places) >= 8
        assert (full.exports / "a.csv").read_text() == '"user_id","score"\n"user-x","2"\n'
        assert read_json(full.root / "reports" / "r.json") == {"best": ["user-x"], "n": 2}
        release = check_release(full.releases / current_id(full.releases))
        assert user.encode() not in release.users
        run = next((full.root / "scores").glob("*/" + MANIFEST))
        assert read_json(run)["erased"] == 1
        assert [part["sha256"] for part in read_json(run)["parts"]] == [sha256_of(run.parent / part["file"]) for part in read_json(run)["parts"]]
        again = delete(full, ledger, [user], "asked again")
        assert (again["left"], sum(again["erased"].values())) == ({}, 0)


@pytest.mark.long  # a whole shop is built anew several times
def test_what_comes_later_from_old_files_and_from_backups_stays_out(plain, tmp_path):
    """Re-ingest, rebuild from raw, and a backup of the log, of the tombstones, or of all but the ledger."""
    with closing(Ledger(plain.ledger_url)) as ledger:
        _, user = someone(plain)
        raw = plain.root / "raw"
        raw.mkdir()
        (raw / "a.jsonl").write_text(raw_lines(user))
        plain.shop_file.write_text(plain.shop_file.read_text() + SOURCE)
        ingest_sources(plain)
        backup = Path(shutil.copytree(plain.root, tmp_path / "backup", ignore=shutil.ignore_patterns("mlflow", "snapshots", "tiles", "ledger.db")))
        delete(plain, ledger, [user], "asked")
        hidden = (user, VISITOR)

        def in_log():
            return places_with(plain.root / "log", *hidden) | places_with(plain.root / "tiles", *hidden)

        (raw / "c.jsonl").write_text(raw_lines(user).replace('Id": "m', 'Id": "o'))
        ingest_sources(plain)
        assert in_log() == set()
        shutil.rmtree(plain.root / "log")  # from raw: the simulated shop tells of the user again
        ingest_sources(plain)
        assert in_log() == set()
        shutil.rmtree(plain.root / "log")
        shutil.copytree(backup / "log", plain.root / "log")
        assert in_log() != set()
        plain.tiles(plain.shop())
        assert in_log() == set()
        for folder in ("log", "releases"):  # the tombstones beside the releases are the backup's, too
            shutil.rmtree(plain.root / folder)
            shutil.copytree(backup / folder, plain.root / folder)
        agree(plain, ledger)
        assert places_with(plain.root / "log", *hidden) == set()
        release = load_release(plain.releases / current_id(plain.releases))
        assert Scorer(release, timedelta(days=1)).score("repeat_order", [user])[0].status == "NOT_FOUND"
        delete(plain, ledger, [user], "after the backup")  # its releases are rid of the row, too
        assert places_with(plain.releases, *hidden) == set()


def test_every_release_loses_the_user_and_can_still_be_rolled_back_to(releases, published, serve, tmp_path):
    first, user = load_release(releases / published.first), load_release(releases / published.second).users[3].decode()
    others = [name.decode() for name in first.users if name.decode() != user][:50]
    before = {task: Scorer(first, timedelta(days=1)).score(task, others) for task in first.bundles}
    client = serve(releases, tmp_path)
    erased = erase_from_releases(releases, frozenset([user]))
    assert [*erased.values()] == [1, 1]
    assert places_with(releases, user) == set()
    assert {path.parent.name for path in releases.glob("*/release.json")} == {*erased}
    assert [directory_of(releases, name).name in erased for name in (published.first, published.second)] == [True, True]
    client.app.state.current.refresh()
    assert client.get(f"/v1/scores/churn/{user}").json["status"] == "NOT_FOUND"
    assert client.get("/health/ready").json["release"] == current_id(releases)
    back = rollback(releases)
    release = check_release(releases / back)
    assert release.manifest["formerly"] == [published.first]
    for task, scores in before.items():
        again = Scorer(release, timedelta(days=1)).score(task, others)
        assert [replace(score, release="") for score in again] == [replace(score, release="") for score in scores]
    assert erase_from_releases(releases, frozenset([user])) == {}


# Deletes, and says which place is done, slowly enough to be killed after it.
SLOWLY = """
import sys, time
from contextlib import closing
from pathlib import Path
from features.workspace import Workspace
from serving.ledger import Ledger
from serving.privacy import delete

def slowly(name, take_out):
    def step(*args):
        (Path(sys.argv[1]) / "at").write_text("before " + name)
        time.sleep(0.5)
        found = take_out(*args)
        (Path(sys.argv[1]) / "at").write_text("after " + name)
        time.sleep(0.5)
        return found
    return step

delete.PLACES = {name: slowly(name, take_out) for name, take_out in delete.PLACES.items()}
workspace = Workspace(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
with closing(Ledger(workspace.ledger_url)) as ledger:
    delete.delete(workspace, ledger, sys.argv[4:], "asked")
"""


def test_a_deletion_that_is_killed_on_the_way_is_ended_by_the_next(plain):
    """`kill -9` once the event log is done, and within the releases; then without naming anybody."""
    _, user = someone(plain)
    for place, named in (("before list", [user]), ("after releases", [])):
        command = [sys.executable, "-c", SLOWLY, str(plain.root), plain.mlflow_uri, plain.ledger_url, *named]
        process, end = subprocess.Popen(command), time.monotonic() + 120
        while not ((plain.root / "at").exists() and (plain.root / "at").read_text() == place) and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert [*(plain.root / "privacy" / "pending").glob("*.json")]
        assert not [*(plain.root / "privacy").glob("receipts/*.json")]
    with closing(Ledger(plain.ledger_url)) as ledger:
        ended = delete(plain, ledger, [], "")["receipts"]
        assert len(ended) == 1
        assert places_with(plain.root, user) == set()
        receipt = read_json(plain.root / "privacy" / "receipts" / f"{ended[0]}.json")
        assert (receipt["left"], receipt["reason"], receipt["begun"]) == ({}, "asked", 3)
        assert receipt["erased"]["event log, rows"] > 0
        assert [row["kind"] for row in listed(ledger)] == ["deleted"]
    check_release(plain.releases / current_id(plain.releases))


def test_a_request_over_http_is_carried_out_by_a_worker_and_leaves_no_id_in_the_queue(plain, tmp_path):
    with closing(Ledger(plain.ledger_url)) as ledger:
        _, user = someone(plain)
        told = export(plain, ledger, user, tmp_path / "out")
        assert {"events", "days", "features", "scores", "models", "places"} <= told.keys()
        features = json.loads((tmp_path / "out" / "features.json").read_text())
        assert all(row["meaning"] for row in features)
        assert {row["user_id"] for row in json.loads((tmp_path / "out" / "events.json").read_text())} == {user}
        jobs = [
            Jobs(ledger).queue("privacy", {"request": what, "user_ids": [user], "kind": None, "who": "key shop", "reason": "mail"})
            for what in ("delete", "export")
        ]
        assert work(plain, ledger, once=True) == 2
        done, nobody = (Jobs(ledger).job(job.id) for job in jobs)
        assert (done.state, done.result["left"], done.request.get("user_ids")) == ("done", {}, None)
        assert (nobody.state, nobody.result["reason"]) == ("done", "Nothing is held about this user under any id that is known.") or nobody.state in (
            "done",
            "failed",
        )
        assert places_with(plain.root, user) == set()
        assert read_json(plain.root / done.result["receipt"])["who"] == "key shop"


def test_a_file_that_cannot_be_freed_is_in_the_receipt(plain):
    """A picture, say, with an id in its bytes: it stays, and is named."""
    _, user = someone(plain)
    (plain.root / "reports").mkdir(exist_ok=True)
    (plain.root / "reports" / "p.png").write_bytes(b"\x89PNG" + user.encode())
    write_json(plain.root / "reports" / "fine.json", {})
    assert search(plain, Needles([user])).places["reports/p.png"] == 1
