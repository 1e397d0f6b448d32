"""What every peer is told on its command line."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def peer_arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="a generated shop; a tiny one for the warm-up lies beside it")
    parser.add_argument("--cutoffs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep the result here")
    return parser.parse_args()


def places(chosen: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """The logs to run on and where to write: first a tiny one, so that libraries are loaded, then the one to measure."""
    for data in (chosen.data.parent / "tiny", chosen.data):
        with tempfile.TemporaryDirectory(dir=data, prefix=".peer-") as out:
            yield data / "whole", Path(out)
            if chosen.out and data == chosen.data:
                shutil.copytree(out, chosen.out, dirs_exist_ok=True)
