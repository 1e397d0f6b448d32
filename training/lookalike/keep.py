"""keep: an expansion in MLflow, registered and if it found anything champion; and its audience on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.errors import UnknownName
from features.files import write_bytes, write_json
from features.sheets import write_csv
from features.workspace import Workspace
from training.blend import Vector
from training.evaluate import Interval
from training.gates import Decision, Reason
from training.lookalike.audiences import Audience, keep_audience, keep_dial
from training.lookalike.base_rate import probabilities
from training.lookalike.contrast_page import contrast_plot
from training.lookalike.expand import Expansion, Ranking
from training.lookalike.expansion_page import expansion_page, proof_plot, reach_plot
from training.lookalike.proof import Proof
from training.lookalike.reach import Dial
from training.lookalike.seed import FEW
from training.lookalike.seed_request import seeds_folder
from training.lookalike.seed_store import changing, seed_names
from training.plots import save
from training.tracking import CHAMPION, Tracking, Version


@dataclass(frozen=True)
class Kept:
    """What became of an expansion: the decision, the registered version, and the folder with the page."""

    decision: Decision
    version: Version
    folder: Path


def decide(proof: Proof) -> Decision:
    """A look-alike model may serve if it surely finds more than chance; that it also beats the rules is said, not asked.

    A warning where it is not surely better than spend, the RFM rule and the centroid: the audience is then no worse than
    theirs, and its page says so.
    """
    ours = proof.choice.chosen
    lift = proof.lift_over_random[ours]["10"]
    reasons = [Reason("finds the hidden", (lift["low"] or 0.0) > 1, f"lift over random at 10 % {_interval(lift)}; its lower end must be above 1")]
    for rule in ("spend", "rfm", "centroid"):
        if rule in proof.gain:
            gain = proof.gain[rule]["10"]
            surely = gain["low"] is not None and gain["low"] > 0
            words = f"recall at 10 % {_interval(gain)} above that of {rule}"
            reasons.append(Reason(f"beats {rule}", True, words if surely else f"{words}: not surely better", warning=not surely))
    if proof.seed < FEW:
        reasons.append(Reason("seed size", True, f"{proof.seed} seed users; below {FEW} intervals are wide and the next seed may look otherwise", warning=True))
    return Decision(all(reason.passed for reason in reasons), False, False, tuple(reasons))


def keep(workspace: Workspace, tracking: Tracking, made: Expansion) -> Kept:
    """Log an expansion as a run of its own with contrast and proof, register it, and make it champion if it finds the hidden.

    No id of a user goes to MLflow: the seed is named by its digest. The caller holds the lock of look-alikes.
    """
    decision = decide(made.proof)
    task, seed, proof = made.bundle.task, made.seed, made.proof
    tags = {
        "encore.task": task,
        "encore.key": made.key,
        "encore.as_of": made.ranking.as_of.isoformat(),
        "encore.data": str(made.bundle.about["data"]),
        "encore.seed": seed.digest,
        "encore.decision": "passed" if decision.promote else "refused",
        "encore.reasons": decision.text,
        "encore.grade": "better than the rules" if proof.better_than_rules else "not surely better than the rules",
        "encore.recall_10": f"{proof.recall[proof.choice.chosen]['10']['value']:.4f}",
    }
    folder = workspace.root / "reports" / task
    page = expansion_page(made, decision.text)
    _write(folder, made, page)
    champion = tracking.with_alias(task, CHAMPION)
    if champion and champion.tags.get("encore.key") == made.key:  # another process was first; promoting again would lose the way back
        return Kept(decision, champion, folder)
    with tracking.run(f"{task} {made.ranking.as_of}", {**tags, "mlflow.note.content": page}) as run_id:
        params = {"seed": seed.name, "seed_digest": seed.digest, "seed_as_of": seed.as_of, "seed_users": len(seed.users), "negatives": len(seed.negatives)}
        tracking.log(run_id, {**params, "chosen": proof.choice.chosen, "features": len(made.bundle.features)}, _flat(proof), {})
        tracking.log_dataset(run_id, f"seed {seed.name}", seed.digest, f"{len(made.bundle.features)} features")
        tracking.log_directory(run_id, folder)
        tracking.log_bundle(run_id, made.bundle, "bundle")
        version = tracking.register(task, run_id, "bundle", {**tags, "encore.kind": "model"}, decision.text)
        if decision.promote:
            tracking.promote(version, champion)
        else:
            tracking.mark_challenger(version)
    return Kept(decision, version, folder)


def _write(folder: Path, made: Expansion, page: str) -> None:
    """The page, its pictures and its numbers: of nobody."""
    write_bytes(folder / "report.md", page.encode())
    evidence = {"metrics": metrics_of(made.proof), "proof": made.proof.describe(), "reach": made.ranking.reach, "afterwards": made.afterwards}
    write_json(folder / "evidence.json", evidence)
    write_json(folder / "contrast.json", made.contrast)
    for name, figure in {"proof": proof_plot(made.proof), "reach": reach_plot(made), "contrast": contrast_plot(made.contrast)}.items():
        save(figure, folder / f"{name}.png")


def metrics_of(proof: Proof) -> dict[str, dict[str, Interval]]:
    """The chosen method as `model` and the others by name: recall and lift over random at 1, 5, 10 and 20 %."""
    names = {method: "model" if method == proof.choice.chosen else method for method in proof.recall}
    return {
        names[method]: {
            **{f"recall_{share}": measured for share, measured in shares.items()},
            **{f"lift_{share}": measured for share, measured in proof.lift_over_random[method].items()},
        }
        for method, shares in proof.recall.items()
    }


def _flat(proof: Proof) -> dict[str, float]:
    flat: dict[str, float | None] = {}
    for who, measured in metrics_of(proof).items():
        prefix = "" if who == "model" else f"{who}."
        flat |= {f"{prefix}{name}": interval["value"] for name, interval in measured.items()}
    return {name: float(value) for name, value in flat.items() if value is not None}


def make_audience(workspace: Workspace, seed: str, ranking: Ranking, dial: Dial, bands: Sequence[float]) -> tuple[Audience, Path, float | None]:
    """The audience of a dial as CSV in the exports folder, and who left it beside it; it stays as the last one was where users are as
    good as equal. Also how many of it are what is looked for, where the dial has a base rate.

    Raises:
        NoUsableData: the dial asks for more users than there are, or for nobody. UnknownName: the seed was deleted meanwhile.
    """
    audience, best_first = keep_audience(workspace, seed, ranking.as_of, ranking.users, ranking.scores, dial.of(ranking.alike), sent=True)
    keep_dial(workspace, seed, dial)
    places = {str(user): place for place, user in enumerate(ranking.users)}
    rows = [places[user] for user in audience.users]
    ranks, new = {user: place for place, user in enumerate(best_first, 1)}, set(audience.entries)
    columns = {
        "user_id": pa.array(audience.users, pa.string()),
        "rank": pa.array([ranks[user] for user in audience.users], pa.int64()),
        "similarity": pa.array(np.round(ranking.alike[rows], 1)),
        "new": pa.array([user in new for user in audience.users], pa.bool_()),
    }
    chances = chances_of(ranking.scores, dial.base_rate, bands)
    if chances is not None:
        columns["probability"] = pa.array(np.round(chances[rows], 6))
    path, left = (workspace.exports / f"lookalike-{seed}.{kind}" for kind in ("csv", "exits.csv"))
    root = seeds_folder(workspace)
    with changing(root):
        if seed not in seed_names(root):  # deleted meanwhile: ids that nobody would ever delete again
            raise UnknownName("seed", seed, seed_names(root))
        write_csv(pa.table(columns), path, ("user_id",))
        write_csv(pa.table({"user_id": pa.array(audience.exits, pa.string())}), left, ("user_id",))
    return audience, path, None if chances is None else float(chances[rows].sum())


def chances_of(scores: Vector, base_rate: float | None, bands: Sequence[float]) -> Vector | None:
    """P(is what is looked for) of each candidate, where a base rate was given; bands: see `base_rate.bands_of`."""
    if base_rate is None:
        return None
    above = np.searchsorted(np.sort(-scores), -scores, side="left")  # candidates who rank higher; equal scores have equal chances
    return probabilities(above / len(scores), base_rate, bands)


def _interval(measured: Interval) -> str:
    if measured["low"] is None or measured["high"] is None:
        return f"{measured['value']:.3f} (no interval)"
    return f"{measured['value']:.3f} [{measured['low']:.3f}, {measured['high']:.3f}]"
