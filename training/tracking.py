"""MLflow: the connection, and a shop's runs with what they log. The only module that imports mlflow; registered models are `training.registry`."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Against a server that is down the client's defaults block for four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")

import mlflow.store.db_migrations
import requests
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from features.errors import MissingExtra, TrackingUnavailable
from features.files import digest_of
from features.workspace import Workspace
from training.bundle import Bundle, save_bundle
from training.lease import FREE, Holder, Lease, Place, Row, Tag, leased
from training.registry import CHALLENGER as CHALLENGER
from training.registry import CHAMPION as CHAMPION
from training.registry import PREVIOUS as PREVIOUS
from training.registry import Registry
from training.registry import Version as Version
from training.schema import check_schema, make_sqlite

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # what goes wrong is raised as one of our errors

LEASE = "encore.lease"  # the tag that holds it where MLflow is a server
MIGRATIONS = Path(mlflow.store.db_migrations.__path__[0])


class Tracking(Registry):
    """The runs and registered models of one shop.

    Raises:
        TrackingUnavailable: from every method, when MLflow cannot be reached or refuses.
    """

    def __init__(self, workspace: Workspace, shop_name: str) -> None:
        # A name without a Latin letter still needs a name of its own in a shared registry.
        self.shop_name, self.slug = shop_name, re.sub(r"[^a-z0-9]+", "-", shop_name.lower()).strip("-") or digest_of(shop_name)[:8]
        self.uri = workspace.mlflow_uri
        self.lease: Lease | None = None
        with self._reachable():
            if self.uri.startswith("sqlite:///"):
                make_sqlite(Path(self.uri.removeprefix("sqlite:///")), lambda url: MlflowClient(url).search_experiments(max_results=1))
            is_server = self.uri.startswith(("http:", "https:"))
            if not is_server:
                check_schema(self.uri, MIGRATIONS, mlflow.__version__)
            self.client = MlflowClient(self.uri)
            # A server keeps artifacts where it likes; a bare database would have them in the folder that a command is called from.
            self.experiment = self._experiment() or self._create_experiment(None if is_server else workspace.mlflow_artifacts.as_uri())

    @property
    def shown_uri(self) -> str:
        """Where MLflow is, for people: without a password."""
        return _without_password(self.uri)

    @contextmanager
    def alone(self, lock_file: Path, *, wait: bool = False) -> Iterator[None]:
        """Be the only one, on any host, that trains this shop and changes its aliases; the caller holds the lock file.

        Raises:
            Locked: another host does and `wait` is false. Later, from `register`, `promote` and `mark_challenger`:
                this process was away for so long that another has taken over.
        """
        place: Place = Row(self.uri, self.slug) if Row.possible(self.uri) else Tag(self._read_lease, self._write_lease)
        with leased(place, Holder.of(lock_file), f"A retrain of shop '{self.shop_name}'", self._reachable, wait=wait) as self.lease:
            yield

    # --- runs -------------------------------------------------------------------------------------------------------

    def finished(self, key: str) -> str | None:
        """The run that did this very work and finished."""
        return self._find(f"tags.`encore.key` = '{key}' and attributes.status = 'FINISHED'")

    def close_stale(self, *, of_seeds: bool = False) -> int:
        """Mark our runs that a killed process left RUNNING; the caller holds the lock, of retraining or of look-alikes (`of_seeds`), so
        nobody is working on them."""
        with self._reachable():
            running = self.client.search_runs([self.experiment], "attributes.status = 'RUNNING'", max_results=1000)
            stale = [run for run in running if any(tag.startswith("encore.") for tag in run.data.tags) and ("encore.seed" in run.data.tags) is of_seeds]
            for run in stale:
                self.client.set_terminated(run.info.run_id, "KILLED")
        return len(stale)

    @contextmanager
    def run(self, name: str, tags: Mapping[str, str], parent: str | None = None) -> Iterator[str]:
        """Open a run for the block; it ends FINISHED, or FAILED when the block raises."""
        with self._reachable():
            above = {"mlflow.parentRunId": parent} if parent else {}
            run_id = str(self.client.create_run(self.experiment, tags={**above, **tags}, run_name=name).info.run_id)
        try:
            yield run_id
        except BaseException:
            with self._reachable():
                self.client.set_terminated(run_id, "FAILED")
            raise
        with self._reachable():
            self.client.set_terminated(run_id, "FINISHED")

    def log(self, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str], steps: int | None = None) -> None:
        """Add to a run; `steps` is the step that the metrics belong to."""
        now = int(time.time() * 1000)
        with self._reachable():
            self.client.log_batch(
                run_id,
                metrics=[Metric(name, value, now, steps or 0) for name, value in metrics.items()],
                params=[Param(name, str(value)[:6000]) for name, value in params.items()],
                tags=[RunTag(name, value[:8000]) for name, value in tags.items()],
            )

    def log_dataset(self, run_id: str, name: str, digest: str, schema: str) -> None:
        """Say which data a run saw, by digest; never a row of it."""
        with self._reachable():
            data = Dataset(name=name, digest=digest[:36], source_type="encore", source="{}", schema=schema)
            self.client.log_inputs(run_id, [DatasetInput(dataset=data, tags=[])])

    def log_directory(self, run_id: str, directory: Path) -> None:
        """Copy a directory's content into the run's artifacts."""
        with self._reachable():
            self.client.log_artifacts(run_id, str(directory))

    def log_bundle(self, run_id: str, bundle: Bundle, path: str) -> None:
        with tempfile.TemporaryDirectory() as scratch, self._reachable():
            save_bundle(bundle, Path(scratch))
            self.client.log_artifacts(run_id, scratch, path)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _experiment(self) -> str | None:
        found = self.client.get_experiment_by_name(self.shop_name)
        return str(found.experiment_id) if found else None

    def _create_experiment(self, place: str | None) -> str:
        # The tag makes the MLflow pages open on runs and models; without it they open on chat traces.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return str(self.client.create_experiment(self.shop_name, artifact_location=place, tags=kind))
        except MlflowException:  # another host was quicker
            if found := self._experiment():
                return found
            raise

    def _read_lease(self) -> str:
        return str(self.client.get_experiment(self.experiment).tags.get(LEASE, FREE))

    def _write_lease(self, value: str) -> None:
        self.client.set_experiment_tag(self.experiment, LEASE, value)

    def _find(self, condition: str) -> str | None:
        with self._reachable():
            runs = self.client.search_runs([self.experiment], condition, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except ModuleNotFoundError as error:  # the driver of a database
            raise MissingExtra("postgres", error.name) from None
        except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            reason = _without_password(str(error).strip().splitlines()[0])[:300] if str(error).strip() else type(error).__name__
            raise TrackingUnavailable(
                f"MLflow at {_without_password(self.uri)} did not do what was asked: {reason} "
                "Check that it runs (ENCORE_MLFLOW_URI), then run the same command again: it resumes."
            ) from error


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)
