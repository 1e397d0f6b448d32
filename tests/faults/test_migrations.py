"""The ledger's schema: made, adopted and brought up to date on both databases, by one process at a time, wholly or not at all."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime
from threading import Barrier

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from serving.border.keys import create_key, read_keys
from serving.campaigns import store
from serving.campaigns.plan import Plan
from serving.jobs import Jobs
from serving.ledger import Ledger, LedgerUnavailable
from serving.migrations import REVISIONS, VERSION, LedgerTooNew, all_tables
from serving.migrations.upgrade import settings
from serving.orders import Lookalikes

# The tables as `create_all` made them before there were revisions.
BEFORE = sa.MetaData()
MOMENT = sa.DateTime(timezone=True)
sa.Table(
    "audiences",
    BEFORE,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(200), unique=True, nullable=False),
    sa.Column("rule", sa.JSON, nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
)
sa.Table(
    "jobs",
    BEFORE,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("kind", sa.String(50), nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("result", sa.JSON),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("finished_at", MOMENT),
)
sa.Table(
    "lookalikes",
    BEFORE,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("job", sa.String(36), nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
)
RULE = {"task": "churn", "top_n": 5}
DAY = date(2025, 3, 1)


def of_driver(url):
    return url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def engine(ledger_url):
    """To look at the database from outside."""
    engine = sa.create_engine(of_driver(ledger_url), poolclass=sa.NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def old(engine):
    """A ledger from before there were revisions, with something in it."""
    BEFORE.create_all(engine)
    with engine.begin() as connection:
        now = datetime.now(UTC)
        connection.execute(BEFORE.tables["audiences"].insert().values(id="a", name="vip", rule=RULE, created_at=now))
        connection.execute(BEFORE.tables["jobs"].insert().values(id="j", kind="lookalike", request={"name": "best"}, state="queued", created_at=now))
        connection.execute(BEFORE.tables["lookalikes"].insert().values(name="best", request="digest", job="j", created_at=now))
    return engine


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


def differences(engine):
    """What the database has otherwise than the code says."""
    with engine.connect() as connection:
        told = {"compare_type": True, "compare_server_default": True, "version_table": VERSION.name}
        return compare_metadata(MigrationContext.configure(connection, opts=told), all_tables())


def state(engine):
    """Columns of each table, and the revision."""
    with engine.connect() as connection:
        found = sa.inspect(connection)
        tables = {name: [column["name"] for column in found.get_columns(name)] for name in found.get_table_names()}
        return tables, connection.execute(sa.select(VERSION.c.version_num)).scalar() if VERSION.name in tables else None


def refuse(*_):
    raise AssertionError("a current ledger was brought up to date")


def test_a_new_ledger_is_what_the_code_says_and_needs_no_revision(ledger, engine, monkeypatch):
    monkeypatch.setattr("serving.migrations.upgrade.upgrade", refuse)
    ledger.audiences()
    assert (differences(engine), state(engine)[1]) == ([], REVISIONS[-1])


def test_a_ledger_from_before_there_were_revisions_is_adopted_and_nothing_is_lost(old, ledger):
    assert differences(old) != []
    assert [audience.rule for audience in ledger.audiences()] == [RULE]
    assert (differences(old), state(old)[1]) == ([], REVISIONS[-1])
    assert (Lookalikes(ledger).job("best").id, Jobs(ledger).claim().tries) == ("j", 1)
    create_key(ledger, "one", ["score"], days=1)
    assert len(read_keys(ledger)) == 1


def test_members_who_entered_before_sizes_were_kept_are_counted_once(ledger, engine, ledger_url):
    of, _ = store.save_campaign(ledger, Plan("spring", DAY, 14))
    members = {"a": "treatment", "b": "control", "c": "control"}
    store.add_members(ledger, of, [store.Member(user, group, *[None] * 5, DAY, DAY) for user, group in members.items()])
    with engine.begin() as connection:
        store.SIZES.drop(connection)
        connection.execute(VERSION.update().values(version_num="r0009"))
    with closing(Ledger(ledger_url)) as later:
        assert store.group_sizes(later, of) == {"treatment": 1, "control": 2}
    assert differences(engine) == []


def test_the_revisions_are_a_chain_and_the_code_names_them_all():
    found = ScriptDirectory.from_config(settings())
    assert tuple(revision.revision for revision in reversed(list(found.walk_revisions()))) == REVISIONS
    assert found.get_heads() == [REVISIONS[-1]]


def test_a_current_ledger_is_only_looked_at(ledger, ledger_url, monkeypatch):
    ledger.audiences()
    monkeypatch.setattr("serving.migrations.all_tables", refuse)
    monkeypatch.setattr("serving.migrations._alone", refuse)
    with closing(Ledger(ledger_url)) as again:
        assert again.audiences() == []


def test_a_ledger_of_a_newer_encore_is_refused_with_what_to_do_and_left_alone(ledger, ledger_url, engine):
    ledger.audiences()
    with engine.begin() as connection:
        connection.execute(VERSION.update().values(version_num="r9999"))
    before = state(engine)
    with closing(Ledger(ledger_url)) as older:
        for _ in range(2):
            with pytest.raises(LedgerTooNew, match="Update Encore here, or name another ledger by ENCORE_LEDGER_URL"):
                older.audiences()
    assert state(engine) == before


@pytest.mark.parametrize("begun", [False, True])
def test_of_several_at_once_one_does_it_and_all_go_on(request, ledger_url, engine, begun):
    if begun:
        request.getfixturevalue("old")
    many, together = 6, Barrier(6)

    def start(number):
        with closing(Ledger(ledger_url)) as ledger:
            together.wait(30)
            return ledger.save_audience(f"of {number}", RULE)[1]

    with ThreadPoolExecutor(many) as pool:
        assert list(pool.map(start, range(many))) == [True] * many
    assert (differences(engine), state(engine)[1]) == ([], REVISIONS[-1])
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(VERSION)).all()) == 1


def test_a_revision_that_fails_halfway_leaves_the_ledger_as_it_was(old, ledger):
    with old.begin() as connection:
        connection.execute(sa.text("create table idempotency_keys (something integer)"))  # in the way of the second table
    before = state(old)
    with pytest.raises(LedgerUnavailable):
        ledger.audiences()
    assert state(old) == before
    with old.begin() as connection:
        connection.execute(sa.text("drop table idempotency_keys"))
    assert [audience.name for audience in ledger.audiences()] == ["vip"]
    assert differences(old) == []


def test_other_tables_of_the_database_are_neither_taken_for_ours_nor_touched(ledger, engine):
    with engine.begin() as connection:
        connection.execute(sa.text("create table alembic_version (version_num varchar(32) not null)"))
        connection.execute(sa.text("insert into alembic_version values ('of somebody else')"))
    ledger.audiences()
    with engine.connect() as connection:
        assert connection.execute(sa.text("select version_num from alembic_version")).scalar() == "of somebody else"


def test_a_service_with_a_current_ledger_loads_no_alembic(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    code = f"import sys; from serving.ledger import Ledger; Ledger({url!r}).audiences(); print('alembic' in sys.modules)"
    for _ in range(2):  # made, and found
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == "False"
