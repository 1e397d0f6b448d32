"""Every file and every table of a workspace, searched for ids: the last step of a deletion, and its proof."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import pyarrow as pa
import sqlalchemy as sa

from features.workspace import Workspace
from serving.privacy.databases import hits_in
from serving.privacy.formats import SQLITE, Seen, look
from serving.privacy.needles import Needles

SENT = "exports/"  # where files for others lie, which have hashes of ids
PENDING = "privacy/pending"  # what is being deleted, until it is


@dataclass
class Searched:
    """What a search found. places: file, or table of a database -> rows, lines or values; formats: how many files of each were searched;
    unreadable: files that could only be searched as bytes though they are of a known format."""

    places: dict[str, int] = field(default_factory=dict)
    formats: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)


def search(workspace: Workspace, needles: Needles) -> Searched:
    """Search a workspace, its ledger and MLflow's database, unless that is a server's. What Encore keeps as hashes on purpose is no find."""
    found, sent, needles = Searched(), needles, Needles(needles.names, hashed=False)
    for path in files_of(workspace.root):
        name = str(path.relative_to(workspace.root))
        seen = _look(path, name, sent if name.startswith(SENT) else needles, found)
        found.formats[seen.format] += 1
        if seen.hits:
            found.places[name] = seen.hits
        if seen.format == SQLITE:
            found.places |= {f"{name}, table {table}": hits for table, hits in _in_database(f"sqlite:///{path}", needles).items()}
    for what, url in (("ledger", workspace.ledger_url), ("MLflow", workspace.mlflow_uri)):
        if not url.startswith(("http", f"sqlite:///{workspace.root}")):
            found.formats[f"database of the {what}"] += 1
            found.places |= {f"{what}, table {table}": hits for table, hits in _in_database(url, needles).items()}
    return found


def files_of(root: Path) -> Iterator[Path]:
    """Every file of a workspace but the note of what is being deleted; links are not followed."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and not str(path.relative_to(root)).startswith(PENDING):
            yield path


def _look(path: Path, name: str, needles: Needles, found: Searched) -> Seen:
    try:
        return look(path, needles)
    except FileNotFoundError:  # a file of a running process that is gone again
        return Seen("gone", 0)
    except (pa.ArrowException, OSError, ValueError, EOFError, zlib.error, BadZipFile):
        found.unreadable.append(name)
        return Seen("bytes", int(needles.bytes_in(path.read_bytes())))


def _in_database(url: str, needles: Needles) -> dict[str, int]:
    address = sa.make_url(url)
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address, poolclass=sa.NullPool, hide_parameters=True)
    with closing(engine.raw_connection()):
        return hits_in(engine, needles)
