"""Workspace: the one folder that holds a shop's log, tiles, snapshots, models and releases."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# What computes is imported by those who ask for it: the service needs to know no more than where its releases lie.
if TYPE_CHECKING:
    from features.events import EventLog
    from features.shopfile import Shop
    from features.store import SnapshotStore
    from features.tiles import Tiles


@dataclass(frozen=True)
class Workspace:
    """Where everything of one shop lies.

    Args:
        root: the folder. mlflow_uri, ledger_url: where else these two live, when not in the folder.
    """

    root: Path
    mlflow_uri: str
    ledger_url: str

    @property
    def shop_file(self) -> Path:
        return self.root / "encore.toml"

    @property
    def snapshots(self) -> SnapshotStore:
        from features.store import SnapshotStore

        return SnapshotStore(self.root / "snapshots")

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.root / "mlflow" / "artifacts"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    def shop(self) -> Shop:
        """The shop's settings.

        Raises:
            InvalidShopFile: `encore.toml` is missing or wrong.
        """
        from features.shopfile import read_shop

        return read_shop(self.shop_file)

    def log(self, shop: Shop) -> EventLog:
        from features.events import EventLog

        return EventLog(self.root / "log", shop.zone, shop.currency, tombstones=self.releases)

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    def tiles(self, shop: Shop, bucket_events: int | None = None) -> Tiles:
        """The tiles of the log as it is now."""
        from features.tiles import BUCKET_EVENTS, open_tiles

        log = self.log(shop)
        if log.erase_returned():  # a backup of the log was restored
            self.drop_derived()
        return open_tiles(log, shop, self.root / "tiles", bucket_events or BUCKET_EVENTS)

    def drop_derived(self) -> int:
        """Delete tiles and snapshots, which are made anew from the log; returns the number of snapshots."""
        snapshots = list((self.root / "snapshots").glob("*/manifest.json"))
        for folder in ("snapshots", "tiles"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        return len(snapshots)


def open_workspace(root: Path | None = None, environment: Mapping[str, str] = os.environ) -> Workspace:
    """The workspace named on the command line, else by ENCORE_WORKSPACE, else `./workspace`.

    ENCORE_MLFLOW_URI and ENCORE_LEDGER_URL move the registry and the ledger out of the folder.
    """
    folder = (root or Path(environment.get("ENCORE_WORKSPACE", "workspace"))).resolve()
    return Workspace(
        root=folder,
        mlflow_uri=environment.get("ENCORE_MLFLOW_URI", f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"),
        ledger_url=environment.get("ENCORE_LEDGER_URL", f"sqlite:///{folder / 'ledger.db'}"),
    )
