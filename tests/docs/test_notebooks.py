"""Notebooks that cannot lie: each one runs from top to bottom, on a small shop that went the whole way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import jupytext
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.util import run_sync
from nbformat.v4 import new_code_cell

from features.workspace import Workspace

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))
SHOWN = {
    "01_first_look": ("beats rule", "largest difference **0**", "NOT_FOUND"),
    "02_models": ("champion", "recency rule", "in_the_best_tenth", "rank correlation **", "beats bgnbd", "shuffled labels", "is champion"),
    "03_lookalike_for_a_launch": (
        *(
            "seed: **sampling**",
            "147 explicit negatives",
            "not converted",
            "spend rule",
            "of 30 hidden",
            "similarity 50 or more",
            "bought it",
            "look-alikes bought",
        ),
        "rank correlation **",
    ),
    "04_did_the_campaign_work": ("kept out by lot", "The campaign added", "treated, did not open", "No effect is shown", "Interim", "smallest rise", "planted"),
    "05_your_own_feature_and_task": (
        *("garden products looked at in the last 90 days", "2024-06-13", "events behind it", "Largest difference: **0**", "Did you mean 'department'"),
        *("ends 30 days later", "gain over it", "beats without", "**passed"),
    ),
}
PICTURES = {"01_first_look": 1, "02_models": 4, "03_lookalike_for_a_launch": 3, "04_did_the_campaign_work": 2, "05_your_own_feature_and_task": 2}
LOGIC = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Try)


@pytest.fixture(scope="module")
def kernel(small_workspace: Workspace) -> Iterator[AsyncKernelManager]:
    """One for all notebooks, so that what they import is loaded once; started by the first."""
    # No kernel directories: what is left is this interpreter's own kernel, whatever else the user has installed.
    made = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ENCORE_WORKSPACE", str(small_workspace.root))
        environment.delenv("ENCORE_MLFLOW_URI", raising=False)
        yield made
    run_sync(made.shutdown_kernel)(now=True)


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def executed(request: pytest.FixtureRequest, kernel: AsyncKernelManager) -> list[tuple[str, list[dict]]]:
    """Source and outputs of each code cell, run where the file lies, with no name of another notebook left."""
    notebook = jupytext.read(request.param)
    notebook.cells.insert(0, new_code_cell("%reset -f"))
    client = NotebookClient(notebook, km=kernel, timeout=300, resources={"metadata": {"path": str(request.param.parent)}})
    try:
        client.execute()
    finally:
        client.kc.stop_channels()  # its own; the kernel goes on
    return [(cell.source, cell.outputs) for cell in notebook.cells[1:] if cell.cell_type == "code"]


def test_a_notebook_runs_and_every_cell_after_the_first_shows_something(executed: list[tuple[str, list[dict]]]) -> None:
    assert [source for source, outputs in executed[1:] if not outputs] == []


def test_a_notebook_warns_of_nothing(executed: list[tuple[str, list[dict]]]) -> None:
    assert [output["text"] for _, outputs in executed for output in outputs if output["output_type"] == "stream"] == []


def test_a_notebook_shows_its_pictures_and_what_it_is_about(executed: list[tuple[str, list[dict]]], request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["executed"].stem
    shown = [output.get("data", {}) for _, outputs in executed for output in outputs]
    text = "\n".join(data.get("text/markdown", data.get("text/plain", "")) for data in shown)
    assert sum("image/png" in data for data in shown) == PICTURES[name]
    assert [phrase for phrase in SHOWN[name] if phrase not in text] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_logic_of_its_own(path: Path) -> None:
    assert [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, LOGIC)] == []


def test_no_notebook_shadows_a_package() -> None:
    assert {path.stem for path in NOTEBOOKS}.isdisjoint({"features", "training", "serving", "encore"})
