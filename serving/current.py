"""Current: what a running service answers from, and how it takes up a new release by itself."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

from features.errors import EncoreError, NoRelease
from features.logs import log
from serving.audiences.warm import warm
from serving.metrics import RELEASES_REFUSED, SWAPS
from serving.pointer import current_id
from serving.release import Release, load_release
from serving.scorer import Scorer
from serving.tombstones import Stamp, read_tombstones, stamp

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
        # Kept until the next swap: requests that began before this one may still read it, and to unmap half a gigabyte takes
        # milliseconds, which this thread has and the one that answers has not.
        self._before: Scorer | None = None
        self._stamp: Stamp | None = None
        self._refused: tuple[str | None, Stamp | None] | None = None
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
        """Honour new tombstones and take up the release that the pointer names; on any failure keep what is served and say so."""
        wanted, seen = None, None
        try:
            seen = stamp(self.root)
            self._honour(seen)
            wanted = current_id(self.root)
            if self._scorer and wanted == self._scorer.release.id:
                self.failure, self._refused = None, None
                return
            if (wanted, seen) == self._refused and time.monotonic() < self._retry_at:
                return
            self._take_up(load_release(self.root / wanted), seen)
        except Exception as error:  # noqa: BLE001 - whatever a release does, the service and its watch go on
            reason = str(error) if isinstance(error, EncoreError) else f"{type(error).__name__}: {error}"
            if reason != self.failure:
                RELEASES_REFUSED.inc(not isinstance(error, NoRelease))
                log.error("release not taken up", extra={"facts": {"reason": reason, "serving": self._scorer and self._scorer.release.id}})
            self.failure, self._refused, self._retry_at = reason, (wanted, seen), time.monotonic() + RETRY

    def _honour(self, seen: Stamp | None) -> None:
        """Withhold users who were suppressed or deleted since; a list that vanished takes nobody back."""
        if self._scorer is None or seen in (self._stamp, None):
            return
        release = self._scorer.release.withholding(read_tombstones(self.root))
        before = self._scorer.release
        self._scorer, self._stamp = Scorer(release, self.good_for), seen
        warm(release, before)  # not before they are silenced
        log.info("tombstones honoured", extra={"facts": {"withheld": len(release.withheld.rows), "tombstones": len(release.withheld.tombstones)}})

    def _take_up(self, release: Release, seen: Stamp | None) -> None:
        if self._scorer:  # what is known stays known, whatever happened to the list meanwhile
            release = release.withholding(self._scorer.release.withheld.tombstones)
        scorer = Scorer(release, self.good_for)
        scorer.warm()
        if self._scorer:
            warm(release, self._scorer.release)
        self._before, self._scorer, self._stamp = self._scorer, scorer, seen
        self.failure, self._refused = None, None
        self.swaps += 1
        SWAPS.inc()
        log.info("release in service", extra={"facts": {"release": release.id}})

    def watch(self, seconds: float = 0.25) -> threading.Thread:
        """Look at the pointer and the tombstones again and again in a thread of its own."""

        def look() -> None:
            while not self._stop.wait(seconds):
                self.refresh()

        thread = threading.Thread(target=look, name="release-watch", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._stop.set()
