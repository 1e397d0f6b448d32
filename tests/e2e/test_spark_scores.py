"""Everybody scored by Spark on two cores: the same files to the byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from features.errors import UnknownName
from serving.spark import on_spark

PROJECT = Path(__file__).parents[2]


def score(root: Path, *more: str) -> dict[str, bytes]:
    """The files of the run that `encore score` makes, by name."""
    subprocess.run([sys.executable, "-m", "encore", "score", "--workspace", str(root), *more], cwd=PROJECT, check=True, capture_output=True, timeout=300)
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / "scores").glob("*/*")}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_spark_writes_the_same_score_run(published: Any, releases: Path) -> None:
    """The model, the release and the code are the same; only who runs it differs."""
    if shutil.which("java") is None and not os.environ.get("CI"):
        pytest.skip("Spark needs Java 17, which is not installed here")
    ours = score(releases.parent)
    shutil.rmtree(releases.parent / "scores")
    theirs = score(releases.parent, "--engine", "spark://local[2]")
    assert sorted(path.rpartition("/")[2] for path in ours) == ["part-00000.parquet", "run.json"]
    assert theirs == ours


def test_another_engine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Unknown engine 'duckdb://'"):
        on_spark("duckdb://", tmp_path)
