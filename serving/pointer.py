"""The pointer to the release in service, how it is moved, and the account of every move.

It opens no release itself: `encore rollback` is done before numpy would be imported.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features.errors import NoRelease, ReleaseRefused, UnknownName
from features.files import exclusive, write_json
from serving.verified import SETTLED, is_checked, lying, note_checked, read_manifest

POINTER, HISTORY = "current.json", "history.jsonl"


def current_id(root: Path) -> str:
    """The id of the release that is to be served.

    Raises:
        NoRelease: none was published yet.
    """
    return str(_pointer(root)["current"])


def directory_of(root: Path, release_id: str) -> Path:
    """The folder of a release.

    Raises:
        UnknownName: there is none of that id.
    """
    known = [path.parent.name for path in root.glob("[0-9]*/release.json")]
    if release_id in known:
        return root / release_id
    for name in known:  # users were erased from it, and it has a new id since
        with suppress(OSError, ValueError, ReleaseRefused):
            if release_id in read_manifest(root / name).get("formerly", ()):
                return root / name
    raise UnknownName("release", release_id, known)


def point_to(root: Path, release_id: str, action: str = "publish") -> None:
    """Serve another release, and remember the one before; readers see the old pointer or the new. The caller holds the lock."""
    try:
        before = _pointer(root)
    except (NoRelease, ReleaseRefused):  # a damaged pointer is mended by writing a new one
        before = {"current": None, "previous": None}
    if before["current"] == release_id:
        return
    write_json(root / POINTER, {"current": release_id, "previous": before["current"]})
    moved = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "who": _who(), "action": action, "from": before["current"], "to": release_id}
    try:
        _append(root / HISTORY, moved)
    except OSError as error:
        raise ReleaseRefused(f"{release_id} is in service, but {HISTORY} could not be written: {error.strerror}. Make room and note it there.") from None


def pointed_at(root: Path) -> list[str]:
    """The release in service and the one before, as far as there are.

    Raises:
        ReleaseRefused: the pointer is damaged.
    """
    try:
        return [name for name in _pointer(root).values() if name is not None]
    except NoRelease:
        return []


def move_pointer(root: Path, moved: Mapping[str, str]) -> None:
    """Name releases by their new ids, the one in service and the one before in one step. The caller holds the lock."""
    if not {*pointed_at(root)} & moved.keys():
        return
    before = _pointer(root)
    after = {place: moved.get(name, name) for place, name in before.items()}
    write_json(root / POINTER, after)
    if after["current"] != before["current"]:
        told = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "who": _who(), "action": "erase users"}
        _append(root / HISTORY, {**told, "from": before["current"], "to": after["current"]})


def activate(root: Path, release_id: str) -> None:
    """Check a release in a child process, then serve it."""
    with _alone(root):
        _check(root / release_id)
        point_to(root, release_id)


def rollback(root: Path) -> str:
    """Serve the previous release again; returns its id.

    It was checked when it was published, and is not again as long as nobody has touched its files: that takes milliseconds.

    Raises:
        NoRelease: there is no previous one. ReleaseRefused: it was damaged since.
    """
    with _alone(root):
        previous = _pointer(root)["previous"]
        if previous is None:
            raise NoRelease("There is no previous release to roll back to. Run: encore publish")
        if not is_checked(root / previous):
            _check(root / previous)
        point_to(root, previous, "rollback")
    return str(previous)


def history(root: Path) -> list[Mapping[str, Any]]:
    """Every move of the pointer, oldest first: at, who, action, from, to. A line that a crash tore is left out."""
    found: list[Mapping[str, Any]] = []
    for line in (root / HISTORY).read_bytes().splitlines() if (root / HISTORY).exists() else []:
        try:
            found.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def _alone(root: Path) -> AbstractContextManager[None]:
    return exclusive(root / ".lock", "A publication", wait=True)


def _check(directory: Path) -> None:
    """Check a release by its hashes, in a child process, and remember how its files lay."""
    time.sleep(SETTLED)
    lay = lying(directory)
    check_in_child(directory)
    if lying(directory) == lay:
        note_checked(directory, lay)


def check_in_child(directory: Path, timeout: float = 120) -> None:
    """Check a release in a process of its own: a file that crashes LightGBM ends the child, not the caller."""
    code = "import os, sys, pathlib, serving.release as release; os.nice(5); release.check_release(pathlib.Path(sys.argv[1]))"  # answers come first
    try:
        child = subprocess.run([sys.executable, "-P", "-c", code, str(directory)], capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603 - our own code
    except subprocess.TimeoutExpired:
        raise ReleaseRefused(f"Release {directory.name} could not be checked within {timeout:.0f} s.") from None
    if child.returncode != 0:
        reason = child.stderr.strip().splitlines()[-1] if child.stderr.strip() else f"the check ended with code {child.returncode}"
        raise ReleaseRefused(f"Release {directory.name} failed its check; what was served stays served. {reason}")


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("ab") as file:
        # After a line that a crash tore, the next one begins on its own.
        file.write((b"" if file.tell() == 0 or path.read_bytes().endswith(b"\n") else b"\n") + json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def _pointer(root: Path) -> dict[str, Any]:
    try:
        pointer = json.loads((root / POINTER).read_bytes())
        named = [pointer["current"], *([] if pointer["previous"] is None else [pointer["previous"]])]
        if not all(re.fullmatch(r"[0-9a-f-]+", name) for name in named):
            raise ValueError("not an id")
        return dict(pointer)
    except FileNotFoundError:
        raise NoRelease("Nothing was published yet. Run: encore publish") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseRefused(f"The pointer {POINTER} is damaged ({error}). Run: encore publish") from None
