"""What the console knows of the release in service: the release itself, and the files of its folder `pages`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from features.files import read_json
from features.logs import log
from serving.scorer import Scorer

FOLDER = "pages"
LOOKALIKE = "lookalike-"  # before a seed's name: its prediction


class Told:
    """One release as the console tells of it. Files are read once.

    Args:
        root: the folder of releases. scorer: the one in service.
    """

    def __init__(self, root: Path, scorer: Scorer) -> None:
        self.scorer, self.release = scorer, scorer.release
        self._folder = root / self.release.id / FOLDER
        self._read: dict[str, Mapping[str, Any] | None] = {}
        self.kept: dict[Any, Any] = {}  # what pages work out of this release, by their own keys

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.release.manifest

    @property
    def scored_at(self) -> datetime:
        return self.scorer.scored_at

    def page(self, name: str) -> Mapping[str, Any] | None:
        """The content of a file of the release; None where it has none: it was published by an older Encore, or the page could not be made."""
        if name not in self._read:
            self._read[name] = self._look(name)
        return self._read[name]

    def _look(self, name: str) -> Mapping[str, Any] | None:
        if f"{FOLDER}/{name}" not in self.manifest["files"]:  # which were held against their hashes when it was taken up
            return None
        try:
            return dict(read_json(self._folder / name))
        except (OSError, ValueError, TypeError) as error:
            log.warning("a page's file cannot be read", extra={"facts": {"file": name, "reason": type(error).__name__}})
            return None

    def evidence(self, task: str) -> Mapping[str, Any] | None:
        return self.page(f"evidence.{task}.json")

    @property
    def tasks(self) -> list[str]:
        """Predictions that are about outcomes; the look-alikes of seeds have a page of their own."""
        return [task for task in self.release.bundles if not self.is_seed(task)]

    @property
    def seeds(self) -> list[str]:
        return [task for task in self.release.bundles if self.is_seed(task)]

    def is_seed(self, task: str) -> bool:
        return "seed" in self.release.bundles[task].about

    @property
    def shop_name(self) -> str:
        return str((self.page("shop.json") or {}).get("shop", ""))

    def feature(self, name: str) -> Mapping[str, Any]:
        """What a feature is: family, meaning, unit, actionable."""
        known = (self.page("features.json") or {}).get("features", {}).get(name)
        if known is None:
            known = next((bundle.about["features"][name] for bundle in self.release.bundles.values() if name in bundle.about["features"]), {})
        return {"family": "", "meaning": name, "unit": "", "actionable": False, **known}
