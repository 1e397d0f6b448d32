"""The processes that answer: one, or several that share a port and, as files mapped into memory, the release.

uvicorn's own supervisor starts them, replaces one that died or hangs, and ends all when it is told to.
"""

from __future__ import annotations

import multiprocessing.process
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from features.errors import EncoreError
from features.logs import log, set_up_logs
from features.workspace import Workspace, open_workspace
from serving.release import sweep_if_idle

if TYPE_CHECKING:
    from fastapi import FastAPI

HUNG = 30  # seconds without a sign of life after which a process is replaced; a busy machine takes some to start one


class NotListening(EncoreError):
    """The address cannot be listened on."""


def answer(workspace: Workspace, host: str, port: int, workers: int) -> None:
    """Answer over HTTP until the process is told to end.

    Raises:
        InvalidShopFile: a setting in the environment is none. NotOpen: it may not listen on that address. NotListening: it cannot.
    """
    # What the processes have to know goes by the environment, which they inherit.
    os.environ |= {"ENCORE_WORKSPACE": str(workspace.root), "ENCORE_WORKERS": str(workers)}
    os.environ["ENCORE_SESSION_SECRET"] = os.environ.get("ENCORE_SESSION_SECRET") or secrets.token_hex(32)
    with _counters(workers):
        from serving.app import service_settings
        from serving.border.connection import OPTIONS
        from serving.border.keys import may_listen

        settings = service_settings(workspace)
        may_listen(host, settings.ledger_url, open_on_purpose=settings.open_on_purpose)
        sweep_if_idle(workspace.releases)
        try:
            uvicorn.run(
                "serving.workers:app", factory=True, host=host, port=port, workers=workers, timeout_worker_healthcheck=HUNG, log_level="warning", **OPTIONS
            )
        except SystemExit as left:  # with uvicorn's codes, which here mean something else
            if left.code:
                raise NotListening(f"The service could not listen on {host}:{port}; the line above says why. Is another one there? Try --port.") from None


def app() -> FastAPI:
    """The service of the workspace that the environment names, as one of ENCORE_WORKERS processes."""
    from serving.app import create_app, service_settings

    set_up_logs()
    if supervisor := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(supervisor,), name="supervisor-watch", daemon=True).start()
    return create_app(service_settings(open_workspace()))


def _end_with(supervisor: multiprocessing.process.BaseProcess) -> None:
    """End this worker when its supervisor has ended: one that was killed tells nobody, and the port would stay taken."""
    supervisor.join()
    log.error("the supervisor is gone, this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _counters(workers: int) -> Iterator[None]:
    """A folder in which several processes keep their counters; the metrics look for it once, when they are imported."""
    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="encore-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield
