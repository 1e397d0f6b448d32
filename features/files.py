"""Files that are either whole or not there: atomic writes, content hashes, locks between processes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from features.errors import Locked

if TYPE_CHECKING:
    import pyarrow as pa


def sha256_of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value, so that equal values have equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`."""
    return sha256_of_bytes(canonical_json(value).encode())


def code_digest(*places: Path) -> str:
    """Digest of source files (of folders: the Python files directly in them), so that what an edited definition made is
    not taken for what it would make now."""
    files = [file for place in places for file in (sorted(place.glob("*.py")) if place.is_dir() else [place])]
    return digest_of([[file.name, sha256_of(file)] for file in files])


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
        sync_directory(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A file that is at `path`, and on the disk, when the block ends well, and nowhere when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_directory(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


ROW_GROUP = 131_072  # rows: what a reader of a range of users has to read at least


def parquet_bytes(table: pa.Table) -> bytes:
    """Parquet with settings that are cheap to write and give the same bytes for the same table."""
    import pyarrow as pa  # the service, which shares this module, writes no Parquet
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="lz4", row_group_size=ROW_GROUP)
    return bytes(sink.getvalue())


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Give an empty directory to fill; it becomes `target` when the block ends well and vanishes when it does not.

    A `target` that exists already is left as it is: the caller names directories by content.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
    try:
        yield working
        for file in sorted(working.rglob("*")):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if not target.exists():
            os.chmod(working, 0o755)
            os.rename(working, target)
            sync_directory(target.parent)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def sync_directory(path: Path) -> None:
    """Make a rename in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path` for the block; the kernel frees it when the process ends, however it ends.

    Raises:
        Locked: another process holds it and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Locked(f"{what} is already running (process {file.read().strip() or 'unknown'}). Try again later.") from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
