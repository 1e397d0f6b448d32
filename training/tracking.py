"""MLflow: runs, evidence, registered models and their aliases. The only module that imports mlflow."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.errors import MissingExtra, TrackingUnavailable
from features.files import digest_of, read_json
from features.workspace import Workspace
from training.bundle import Bundle, load_bundle, save_bundle
from training.lease import FREE, Holder, Lease, Place, Row, Tag, leased
from training.schema import check_schema, make_sqlite

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # what goes wrong is raised as one of our errors

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
LEASE = "encore.lease"  # the tag that holds it where MLflow is a server
MIGRATIONS = Path(mlflow.store.db_migrations.__path__[0])


@dataclass(frozen=True)
class Version:
    """A registered model version: its task, number, run and tags."""

    task: str
    number: str
    run_id: str
    bundle_path: str
    tags: Mapping[str, str]


class Tracking:
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

    # --- registered models ------------------------------------------------------------------------------------------

    def register(self, task: str, run_id: str, bundle_path: str, tags: Mapping[str, str], description: str) -> Version:
        """Make a bundle of a run the next version of its task's model."""
        self._confirm()
        name = self._model(task)
        with self._reachable():
            if name not in (model.name for model in self.client.search_registered_models(f"name = '{name}'")):
                self.client.create_registered_model(name, description=f"{task} for {self.shop_name}")
            source = f"{self.client.get_run(run_id).info.artifact_uri}/{bundle_path}"
            made = self.client.create_model_version(name, source, run_id, tags={**tags, "encore.bundle_path": bundle_path}, description=description)
        return self._version(task, made)

    def with_alias(self, task: str, alias: str) -> Version | None:
        """The version that carries an alias, if any."""
        with self._reachable():
            models = self.client.search_registered_models(f"name = '{self._model(task)}'")
            number = models[0].aliases.get(alias) if models else None
            return self._version(task, self.client.get_model_version(self._model(task), str(number))) if number else None

    def versions(self, task: str) -> list[Version]:
        """Every registered version of a task, oldest first."""
        with self._reachable():
            found = self.client.search_model_versions(f"name = '{self._model(task)}'", max_results=1000)
        return [self._version(task, version) for version in sorted(found, key=lambda version: int(version.version))]

    def promote(self, version: Version, judged_against: Version | None) -> None:
        """Make a version the champion and the champion the previous one.

        Aliases are last-writer-wins and people may move them too, so the champion must still be the one that the version
        was judged against, and what was written is read back.

        Raises:
            TrackingUnavailable: the champion is another one. Locked: the lease was lost. Both leave the aliases alone.
        """
        champion = self.with_alias(version.task, CHAMPION)
        if champion and champion.number == version.number:
            return
        if (champion and champion.number) != (judged_against and judged_against.number):
            raise TrackingUnavailable(
                f"Version {version.number} of '{version.task}' was judged against {_numbered(judged_against)}, but champion is now {_numbered(champion)}. "
                "No alias was changed. Run again: it is judged against the new one."
            )
        self._confirm()
        with self._reachable():
            if champion:
                self.client.set_registered_model_alias(self._model(version.task), PREVIOUS, champion.number)
            self.client.set_registered_model_alias(self._model(version.task), CHAMPION, version.number)
        seen = self.with_alias(version.task, CHAMPION)
        if seen is None or seen.number != version.number:
            raise TrackingUnavailable(f"Another process made {_numbered(seen)} of '{version.task}' champion meanwhile. Run again.")

    def note_challenge(self, champion: Version, challenger: Version, decision: str, reasons: str) -> None:
        """Write on the champion what the gate said of the latest challenger to it; the challenger has tags of its own."""
        self._confirm()
        noted = {"": challenger.number, ".as_of": challenger.tags["encore.as_of"], ".decision": decision, ".reasons": reasons}
        with self._reachable():
            for name, value in noted.items():
                self.client.set_model_version_tag(self._model(champion.task), champion.number, f"encore.challenger{name}", value)

    def mark_challenger(self, version: Version) -> None:
        """Point the challenger alias at the latest version that was refused."""
        self._confirm()
        with self._reachable():
            self.client.set_registered_model_alias(self._model(version.task), CHALLENGER, version.number)

    def retire(self, version: Version, when: str) -> None:
        """Take every alias of a version's model away, so that nothing of it is published; its versions stay, this one tagged with the day."""
        with self._reachable():
            model = self.client.get_registered_model(self._model(version.task))
            for alias in sorted(model.aliases):
                self.client.delete_registered_model_alias(model.name, alias)
            self.client.set_model_version_tag(model.name, version.number, "encore.retired", when)

    def champions(self) -> list[Version]:
        """The champion of every task of this shop, by task name."""
        with self._reachable():
            names = [model.name for model in self.client.search_registered_models(f"name LIKE '{self.slug}.%'")]
        found = (self.with_alias(name.removeprefix(f"{self.slug}."), CHAMPION) for name in sorted(names))
        return [version for version in found if version]

    def load(self, version: Version, path: str | None = None) -> Bundle:
        """A version's bundle (or another bundle of its run), verified.

        Raises:
            BundleRefused: it is torn or changed.
        """
        with tempfile.TemporaryDirectory() as scratch:
            with self._reachable():
                folder = self.client.download_artifacts(version.run_id, path or version.bundle_path, scratch)
            return load_bundle(Path(folder))

    def evidence(self, version: Version) -> dict[str, Any]:
        """What was measured before the version was registered."""
        with tempfile.TemporaryDirectory() as scratch, self._reachable():
            return dict(read_json(Path(self.client.download_artifacts(version.run_id, "evidence.json", scratch))))

    def pictures(self, version: Version) -> dict[str, bytes]:
        """The pictures that were drawn of it, by name, as PNG."""
        with tempfile.TemporaryDirectory() as scratch, self._reachable():
            folder = Path(self.client.download_artifacts(version.run_id, "plots", scratch))
            return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.png"))}

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

    def _confirm(self) -> None:
        if self.lease:
            self.lease.confirm()

    def _read_lease(self) -> str:
        return str(self.client.get_experiment(self.experiment).tags.get(LEASE, FREE))

    def _write_lease(self, value: str) -> None:
        self.client.set_experiment_tag(self.experiment, LEASE, value)

    def _model(self, task: str) -> str:
        return f"{self.slug}.{task}"

    def _version(self, task: str, version: ModelVersion) -> Version:
        return Version(task, str(version.version), str(version.run_id), version.tags["encore.bundle_path"], version.tags)

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


def _numbered(version: Version | None) -> str:
    return f"version {version.number}" if version else "none"
