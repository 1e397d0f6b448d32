"""The wheel: built, installed into an empty folder and used from elsewhere, so that nothing is taken from the checkout."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

import encore
from serving.migrations import REVISIONS

PROJECT = Path(encore.__file__).parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(PROJECT)], folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder), str(wheel)], folder)
    return folder


def run(command: list[str], place: Path, **environment: str) -> str:
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(command, cwd=place, env={**os.environ, **quiet, **environment}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_packages_their_shop_files_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"features", "training", "serving", "encore.py", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    beside = {str(path.relative_to(PROJECT)) for package in ("features", "training", "serving") for path in (PROJECT / package).rglob("*") if path.is_file()}
    assert {path for path in beside if "__pycache__" not in path} == {name for name in names if name.split("/")[0] in ("features", "training", "serving")}
    assert {"features/sources/complete_journey.toml", "features/sources/simulated.toml"} <= set(names)


def test_the_wheel_is_marked_private(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
    assert "Classifier: Private :: Do Not Upload" in metadata


def test_it_works_elsewhere(installed: Path, tmp_path: Path) -> None:
    # -P: the folder one stands in is not searched. PYTHONPATH comes before the checkout, which is installed editable.
    python = [sys.executable, "-P"]
    listed = run([*python, "-m", "encore", "--help"], tmp_path, PYTHONPATH=str(installed))
    assert "retrain" in listed
    modules = "encore, features.events, training.bundle, serving.app"
    code = f"import {modules}; print(*(module.__file__ for module in ({modules})), sep='\\n')"
    origins = run([*python, "-c", code], tmp_path, PYTHONPATH=str(installed)).splitlines()
    assert [origin for origin in origins if not Path(origin).is_relative_to(installed)] == []


def test_it_brings_an_older_ledger_up_to_date_elsewhere(installed: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as old:
        old.execute("create table audiences (id varchar(36) primary key, name varchar(200) unique not null, rule json not null, created_at datetime not null)")
    listed = run([sys.executable, "-P", "-m", "encore", "keys", "list", "--workspace", str(tmp_path)], tmp_path, PYTHONPATH=str(installed))
    assert "last used" in listed
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        assert ledger.execute("select version_num from encore_ledger_version").fetchall() == [(REVISIONS[-1],)]


def test_it_ingests_elsewhere(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "encore.toml").write_text((installed / "features" / "sources" / "simulated.toml").read_text().replace("users = 2000", "users = 50"))
    run([sys.executable, "-P", "-m", "encore", "ingest", "--workspace", str(tmp_path)], tmp_path, PYTHONPATH=str(installed))
    assert (tmp_path / "log" / "manifest.json").exists()
