"""The registered models of one shop: versions, their aliases and what lies beside them. It is given MLflow's client and imports none of MLflow."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import TrackingUnavailable
from features.files import read_json
from training.bundle import Bundle, load_bundle
from training.lease import Lease

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"


@dataclass(frozen=True)
class Version:
    """A registered model version: its task, number, run and tags."""

    task: str
    number: str
    run_id: str
    bundle_path: str
    tags: Mapping[str, str]


class Registry(ABC):
    """Registers versions and moves their aliases; `training.tracking.Tracking` is one that has connected.

    Raises:
        TrackingUnavailable: from every method, when MLflow cannot be reached or refuses.
    """

    shop_name: str
    slug: str
    client: MlflowClient
    lease: Lease | None

    @abstractmethod
    def _reachable(self) -> AbstractContextManager[None]:
        """Turns what MLflow raises into TrackingUnavailable."""

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

    def tasks(self) -> list[str]:
        """The tasks of which a version was ever registered."""
        with self._reachable():
            names = [model.name for model in self.client.search_registered_models(f"name LIKE '{self.slug}.%'")]
        return sorted(name.removeprefix(f"{self.slug}.") for name in names)

    def params(self, run_id: str) -> dict[str, str]:
        """What a run was told: its parameters."""
        with self._reachable():
            return dict(self.client.get_run(run_id).data.params)

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

    def told(self, version: Version, names: Sequence[str]) -> dict[str, Any]:
        """What a version's run has logged as JSON: name -> content, of those names that it has."""
        with tempfile.TemporaryDirectory() as scratch, self._reachable():
            there = {found.path for found in self.client.list_artifacts(version.run_id)}
            mine = [name for name in names if f"{name}.json" in there]
            return {name: read_json(Path(self.client.download_artifacts(version.run_id, f"{name}.json", scratch))) for name in mine}

    def pictures(self, version: Version) -> dict[str, bytes]:
        """The pictures that were drawn of it, by name, as PNG."""
        with tempfile.TemporaryDirectory() as scratch, self._reachable():
            folder = Path(self.client.download_artifacts(version.run_id, "plots", scratch))
            return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.png"))}

    def _confirm(self) -> None:
        if self.lease:
            self.lease.confirm()

    def _model(self, task: str) -> str:
        return f"{self.slug}.{task}"

    def _version(self, task: str, version: ModelVersion) -> Version:
        return Version(task, str(version.version), str(version.run_id), version.tags["encore.bundle_path"], version.tags)


def _numbered(version: Version | None) -> str:
    return f"version {version.number}" if version else "none"
