"""A real service: `encore serve` in a process of its own, asked over real connections."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

START = """
import sys
{before}
import encore
encore.app(["serve", "--workspace", sys.argv[1], "--port", sys.argv[2], *sys.argv[3:]])
"""


@dataclass(frozen=True)
class Told:
    """An answer. headers: their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Live:
    """A running service. errors: the file that its standard error goes to."""

    port: int
    process: subprocess.Popen[bytes]
    errors: Path

    def ask(self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 60) -> Told:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, target, content, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Told:
        return self.ask("GET", target, headers=headers)

    def post(self, target: str, body: Any, headers: Mapping[str, str] | None = None) -> Told:
        return self.ask("POST", target, body, headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def metric(self, line: str) -> float:
        """The value of the metrics' line that begins so; 0 when there is none."""
        found = [row.rpartition(" ")[2] for row in self.get("/metrics").body.decode().splitlines() if row.startswith(line)]
        return float(found[0]) if found else 0.0

    def resident(self) -> int:
        """Bytes of memory that the process has."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


StartService = Callable[..., AbstractContextManager[Live]]


@pytest.fixture(scope="session")
def start_service(published: Any) -> StartService:
    """Folder of a workspace -> a running service of the published releases, which ends with the block.

    before: Python that its process runs first. arguments: more of `encore serve`. environment: variables on top of ours. stdout: where its
    standard output goes.
    """

    @contextmanager
    def start(
        folder: Path, before: str = "", arguments: tuple[str, ...] = (), environment: Mapping[str, str] | None = None, stdout: Any = None
    ) -> Iterator[Live]:
        if not (folder / "releases").exists():
            shutil.copytree(published.root, folder / "releases")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        errors = folder / f"errors-{port}.log"
        command = [sys.executable, "-c", START.format(before=before), str(folder), str(port), *arguments]
        with errors.open("wb") as log:
            out = subprocess.DEVNULL if stdout is None else stdout
            process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=out, stderr=log, start_new_session=True)
        live = Live(port, process, errors)
        try:
            wait_until_it_answers(live)
            yield live
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers, too
            process.wait()

    return start


@pytest.fixture(scope="session")
def live(start_service: StartService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A running service with settings as they come; nobody may end it."""
    with start_service(tmp_path_factory.mktemp("live")) as live:
        yield live


def wait_until_it_answers(live: Live) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            live.get("/health/live")
            return
        except OSError:
            assert live.process.poll() is None, live.errors.read_text()
            time.sleep(0.05)
    raise AssertionError(f"it does not answer: {live.errors.read_text()}")
