"""Current: what a running service answers from, and how it takes up a new release by itself."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

from features.errors import EncoreError, NoRelease
from features.logs import log
from serving.release import current_id, load_release
from serving.scorer import Scorer

RETRY = 60.0  # seconds until a refused release is tried again: somebody may have mended it


class Current:
    """The scorer in use.

    A request takes `scorer` once and answers from it alone, so a swap never mixes two releases in one answer.

    Args:
        root: the folder of releases. good_for: how long scores count as fresh.
    """

    def __init__(self, root: Path, good_for: timedelta) -> None:
        self.root, self.good_for = root, good_for
        self.failure: str | None = None
        self.swaps = 0
        self._scorer: Scorer | None = None
        self._refused: str | None = None
        self._retry_at = 0.0
        self._stop = threading.Event()

    @property
    def scorer(self) -> Scorer:
        """What to answer from.

        Raises:
            NoRelease: there is nothing to answer from yet.
        """
        if self._scorer is None:
            raise NoRelease(self.failure or "Nothing was published yet. Run: encore publish")
        return self._scorer

    @property
    def loaded(self) -> Scorer | None:
        return self._scorer

    def refresh(self) -> None:
        """Take up the release that the pointer names; on any failure keep what is served and say so."""
        wanted: str | None = None
        try:
            wanted = current_id(self.root)
            if self._scorer and wanted == self._scorer.release.id:
                self.failure, self._refused = None, None
                return
            if wanted == self._refused and time.monotonic() < self._retry_at:
                return
            scorer = Scorer(load_release(self.root / wanted), self.good_for)
            scorer.warm()
            self._scorer = scorer
        except Exception as error:  # noqa: BLE001 - whatever a release does, the service and its watch go on
            reason = str(error) if isinstance(error, EncoreError) else f"{type(error).__name__}: {error}"
            if reason != self.failure:
                log.error("release not taken up", extra={"facts": {"reason": reason, "serving": self._scorer and self._scorer.release.id}})
            self.failure, self._refused, self._retry_at = reason, wanted, time.monotonic() + RETRY
            return
        self.failure, self._refused = None, None
        self.swaps += 1
        log.info("release in service", extra={"facts": {"release": wanted}})

    def watch(self, seconds: float = 1.0) -> threading.Thread:
        """Look at the pointer again and again in a thread of its own."""

        def look() -> None:
            while not self._stop.wait(seconds):
                self.refresh()

        thread = threading.Thread(target=look, name="release-watch", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._stop.set()
