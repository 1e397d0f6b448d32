"""Other ways to serve the same trees, each with one worker: what bench/service.py holds the service against.

MLflow and the plain FastAPI app run in the project's own environment; BentoML and MLServer in environments of their own, if they
can be installed within the time that is given.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from service_load import post

NAIVE = """
import sys, numpy as np, pandas as pd, fastapi, uvicorn
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
sys.path.insert(0, sys.argv[3])
from service_release import DEEP, NAMES, ROWS, behaviour, outcomes
settings = {name: value for name, value in DEEP.items() if name not in ("objective", "num_threads")}
X = pd.DataFrame(behaviour(ROWS, 2), columns=NAMES)
model = CalibratedClassifierCV(LGBMClassifier(n_estimators=500, n_jobs=1, **settings), cv=3).fit(X, outcomes(X.to_numpy(), 3))
app = fastapi.FastAPI()

@app.get("/")
def live(): return {}

@app.post("/score")
def score(features: dict[str, float | None]): return {"probability": float(model.predict_proba(pd.DataFrame([features], columns=NAMES, dtype=float))[0, 1])}

uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""
MLFLOW = """
import sys, lightgbm as lgb, mlflow, pandas as pd
sys.path.insert(0, sys.argv[3])
from service_release import NAMES, behaviour
booster = lgb.Booster(model_file=sys.argv[1])
rows = pd.DataFrame(behaviour(5, 4), columns=NAMES)
signature = mlflow.models.infer_signature(rows, booster.predict(rows))
mlflow.lightgbm.save_model(booster, sys.argv[2] + "/with", signature=signature)
mlflow.lightgbm.save_model(booster, sys.argv[2] + "/without")
"""
BENTO = """
import bentoml, lightgbm as lgb, numpy as np

@bentoml.service(workers=1)
class Peer:
    def __init__(self): self.model = lgb.Booster(model_file="trees.txt")

    @bentoml.api
    def score(self, row: list[float | None]) -> float: return float(self.model.predict(np.array([row], dtype=float), num_threads=1)[0])
"""


@dataclass(frozen=True)
class Peer:
    """A server to hold ours against: how it is started, where it says that it is ready, and one request."""

    name: str
    command: list[str]
    ready: str
    script: str
    environment: dict[str, str] = field(default_factory=dict)


def peers(trees: Path, row: list[float | None], names: tuple[str, ...], folder: Path, environments: Path, port: int, seconds: float) -> Iterator[Peer | str]:
    """Every peer that can be had here, or the reason why not."""
    root = str(Path(__file__).parent)
    python, (shown, plain) = sys.executable, (json.dumps({"dataframe_split": {"columns": names, "data": [row]}}), json.dumps({"inputs": [row]}))
    # It starts uvicorn by name.
    settled = {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "PATH": f"{Path(python).parent}:{os.environ['PATH']}"}
    named = json.dumps(dict(zip(names, row, strict=True)))
    yield Peer("naive FastAPI: DataFrame, CalibratedClassifierCV of 3 folds", [python, "-c", NAIVE, str(port), "", root], "/", post("/score", named))
    saved = subprocess.run([python, "-c", MLFLOW, str(trees), str(folder / "mlflow"), root], capture_output=True, text=True, timeout=300, check=False)
    if saved.returncode:
        yield f"mlflow models serve: the model could not be saved ({saved.stderr.strip().splitlines()[-1]})"
    else:
        for which, body in (("with", shown), ("without", plain)):
            command = [python, "-m", "mlflow", "models", "serve", "-m", str(folder / "mlflow" / which), "-p", str(port), "--env-manager", "local", "-w", "1"]
            yield Peer(f"mlflow models serve, {which} a signature", command, "/ping", post("/invocations", body), settled)
    yield from _elsewhere("MLServer", ["mlserver", "mlserver-lightgbm"], _mlserver, trees, row, folder, environments, port, seconds)
    yield from _elsewhere("BentoML", ["bentoml", "lightgbm"], _bento, trees, row, folder, environments, port, seconds)


Make = Callable[[Path, list["float | None"], Path, Path, int], Peer]


def _elsewhere(
    name: str, packages: list[str], make: Make, trees: Path, row: list[float | None], folder: Path, environments: Path, port: int, seconds: float
) -> Iterator[Peer | str]:
    """A peer in an environment of its own."""
    place = environments / name.lower()
    done = place / "installed"
    try:
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, capture_output=True, timeout=120)
            subprocess.run([str(place / "bin" / "pip"), "install", "--quiet", *packages], check=True, capture_output=True, text=True, timeout=seconds)
            done.touch()
    except subprocess.TimeoutExpired:
        yield f"{name}: not installed within {seconds:.0f} s"
    except subprocess.CalledProcessError as error:
        yield f"{name}: cannot be installed here ({(str(error.stderr).strip().splitlines() or ['no reason given'])[-1][:120]})"
    else:
        yield make(trees, row, folder / name.lower(), place / "bin", port)


def _mlserver(trees: Path, row: list[float | None], folder: Path, programs: Path, port: int) -> Peer:
    folder.mkdir(parents=True)
    (folder / "model.bst").write_bytes(trees.read_bytes())
    model = {"name": "peer", "implementation": "mlserver_lightgbm.LightGBMModel", "parameters": {"uri": str(folder / "model.bst")}}
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps({"http_port": port, "parallel_workers": 0, "grpc_port": port + 1, "metrics_port": port + 2}))
    values = [0.0 if value is None else value for value in row]
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, len(row)], "datatype": "FP64", "data": values}]})
    return Peer("MLServer, in its own process", [str(programs / "mlserver"), "start", str(folder)], "/v2/health/ready", post("/v2/models/peer/infer", body))


def _bento(trees: Path, row: list[float | None], folder: Path, programs: Path, port: int) -> Peer:
    folder.mkdir(parents=True)
    (folder / "trees.txt").write_bytes(trees.read_bytes())
    (folder / "service.py").write_text(BENTO)
    command = [str(programs / "bentoml"), "serve", "service:Peer", "--port", str(port), "--working-dir", str(folder)]
    return Peer("BentoML", command, "/readyz", post("/score", json.dumps({"row": row})), {"BENTOML_DO_NOT_TRACK": "true"})
