# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Models, and why they may be used
#
# For the morning after a retrain, and for the person who has to sign it off. What ran? What came out, against what has to be
# beaten? Does it hold over time and for every part of the customers? Is it better than what serves now? And why did the
# gate say what it said?
#
# **runs and versions → predictions against baselines → one of them: curves, stability, slices → champion and challenger →
# the gate.**
#
# Like the first notebook it computes nothing of its own and changes nothing: it reads MLflow and the workspace that
# `ENCORE_WORKSPACE` names, else `workspace` beside this project.

# %%
# %matplotlib inline
import os
import re
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Image, Markdown, display

from features.workspace import open_workspace
from training import kind_plots, plots
from training.card import cell
from training.kinds import KINDS
from training.slices import slices_of
from training.task import AskedTask
from training.tasks import all_tasks
from training.tracking import CHALLENGER, CHAMPION, PREVIOUS, Tracking

pd.set_option("display.max_colwidth", 140)

beside = next((folder for folder in (Path("workspace"), Path("../workspace")) if folder.exists()), None)
workspace = open_workspace(Path(os.environ["ENCORE_WORKSPACE"]) if "ENCORE_WORKSPACE" in os.environ else beside)
shop = workspace.shop()
tracking = Tracking(workspace, shop.name)

Markdown(f"**{shop.name}** · experiment {tracking.experiment} in MLflow")

# %% [markdown]
# ## What ran
#
# One row per retrain and per prediction in it, the latest first. `KILLED` is a run that a dead process left open and the next
# retrain closed; it did no harm. `as of` is the date whose knowledge it learned from, not the date on which it ran.

# %%
runs = [run for run in tracking.client.search_runs([tracking.experiment]) if "encore.as_of" in run.data.tags]
pd.DataFrame(
    {
        "run": [run.info.run_name for run in runs],
        "began": pd.to_datetime([run.info.start_time for run in runs], unit="ms").round("s"),
        "minutes": [round(((run.info.end_time or np.nan) - run.info.start_time) / 60_000, 1) for run in runs],
        "status": [run.info.status for run in runs],
        "as of": [run.data.tags["encore.as_of"] for run in runs],
        "gate": [run.data.tags.get("encore.decision", "") for run in runs],
        "grade": [run.data.tags.get("encore.grade", "") for run in runs],
    }
).head(20)

# %% [markdown]
# ## What is registered
#
# Every version stays, refused ones too. Aliases say what they are for: `champion` is what `encore publish` takes, `previous`
# the way back, `challenger` the latest that the gate refused. Where no model has passed yet, a `baseline` is champion.

# %%
tasks = sorted({run.data.tags["encore.task"] for run in runs if "encore.task" in run.data.tags})
versions = [version for task in tasks for version in tracking.versions(task)]
holders = {alias: {task: found.number for task in tasks if (found := tracking.with_alias(task, alias))} for alias in (CHAMPION, PREVIOUS, CHALLENGER)}
pd.DataFrame(
    [
        {
            "prediction": version.task,
            "version": version.number,
            "alias": ", ".join(alias for alias, numbers in holders.items() if numbers.get(version.task) == version.number),
            **{name: version.tags.get(f"encore.{name}", "") for name in ("kind", "decision", "grade", "as_of")},
        }
        for version in versions
    ]
).set_index(["prediction", "version"])

# %% [markdown]
# ## Predictions against baselines
#
# The latest model of each prediction beside the plain rules that it has to beat, on the same customers at the same cutoffs,
# all later than anything it learned from. `gain` is the difference, model minus baseline, turned so that more is better; its
# interval comes from a bootstrap over customers. **An interval that touches zero is a model that may be worth nothing.**
#
# The metric depends on what is predicted: AUC for a yes or no, normalised Gini for an amount, the integrated Brier score (less
# is better) for a date.

# %%
latest = {version.task: version for version in versions if version.tags["encore.kind"] == "model"}
bundles = {task: tracking.load(version) for task, version in latest.items()}
measured = {task: tracking.evidence(version) for task, version in latest.items()}
kinds = {task: KINDS[bundle.kind] for task, bundle in bundles.items()}
pd.DataFrame(
    [
        {
            "prediction": task,
            "by": bundles[task].about["baselines"].get(who, who),
            "metric": kinds[task].main,
            "measured": cell(measured[task]["metrics"][who][kinds[task].main]),
            "gain": cell(kinds[task].gain(measured[task]["gains"][who])) if who in measured[task]["gains"] else "",
        }
        for task in latest
        for who in ("model", *measured[task]["gains"])
    ]
).set_index(["prediction", "by"])

# %% [markdown]
# ## One of them
#
# From here on we follow one prediction. Set `task` to another name of the table and run the rest again.

# %%
task = "repeat_order" if "repeat_order" in latest else next(iter(latest))
version, bundle, evidence, kind = latest[task], bundles[task], measured[task], kinds[task]
words = {"model": "model", **{name: bundle.about["baselines"].get(name, name) for name in evidence["gains"]}}

Markdown(
    f"### {bundle.about['question']}\n\nVersion {version.number}, as of {version.tags['encore.as_of']}, grade *{version.tags['encore.grade']}*. "
    f"Asked about: {bundle.about['eligible']}. Learned from {bundle.about['rows']:,} rows, {bundle.about['positives']:,} of them positive."
)

# %%
pd.DataFrame({word: {name: cell(evidence["metrics"][who][name]) for name in kind.shown} for who, word in words.items()})

# %% [markdown]
# The two pictures to look at first. *Reliability* (of probabilities): of those who were told 30 %, did 30 % do it? Points on the
# diagonal say yes; their intervals say how sure that is. *Gains*: how many of all who did it are found among the best-ranked x
# percent. (Amounts show spend instead, dates the waiting time.) They were drawn when the model was judged and lie in its run.

# %%
pictures = tracking.pictures(version)
first = [name for name in ("reliability", "gains", "spend_by_tenth", "spend_captured", "waiting") if name in pictures]
display(*(Image(data=pictures[name], width=620) for name in first))

# %% [markdown]
# ## Does it hold over time?
#
# Each test cutoff by itself. One good month can carry a pooled number; a model that you can rely on stays above its
# baselines at every cutoff, and does not slide down.

# %%
curves = {word: {date.fromisoformat(cutoff): values[who][kind.main] for cutoff, values in evidence["by_cutoff"].items()} for who, word in words.items()}
plots.stability(curves, kind.main)

# %% [markdown]
# ## For whom does it hold?
#
# The same metric in parts of the customers, by what was known of them at the cutoff. Parts with fewer than thirty of either
# outcome are left out. A ranking is usually *harder within* a part than over all: much of what separates customers is which
# part they are in.

# %%
slices = evidence["slices"] or {"everybody": {"all": evidence["metrics"]["model"]}}
kind_plots.by_slice(slices, kind.main, evidence["metrics"]["model"][kind.main]["value"])

# %% [markdown]
# Let us go into the slice whose parts differ most. A low value in a *small* part is often chance: look at the interval.

# %%
parts = pd.DataFrame([{"slice": name, "part": part, **values} for name, found in slices.items() for part, values in found.items()])
spread = parts[kind.main].map(lambda measure: measure["value"]).groupby(parts["slice"]).agg(np.ptp)
widest = spread.idxmax()
inside = parts[parts["slice"] == widest].set_index("part").rename_axis(f"by {widest}")
inside[list(kind.headline)].map(cell).assign(rows=inside["rows"].map(lambda measure: f"{measure['value']:,.0f}"))

# %% [markdown]
# And who these people are *today*: how many of those who are asked about stand in each part, what the model says of them on
# average, and how many of its best tenth it takes from there. A part where the model is weak and that fills the best tenth is
# the one to worry about.

# %%
tiles = workspace.tiles(shop)
snapshot = workspace.snapshots.get(tiles, tiles.log.complete_until)
asked = AskedTask(all_tasks(shop)[task], int(bundle.about["horizon_days"]), int(bundle.about["window_days"]))
people = snapshot.frame[asked.eligible(snapshot.frame).to_numpy(dtype=bool)]
scores = pd.Series(bundle.scores(people[list(bundle.features)].to_numpy()), index=people.index, name="model")
where = {"everybody": np.full(len(people), "all"), **slices_of(people)}
today = pd.DataFrame({"part": where[widest], "score": scores, "best": scores.rank(pct=True) > 0.9})
today.groupby("part").agg(people=("score", "size"), mean_score=("score", "mean"), in_the_best_tenth=("best", "sum")).round(3)

# %% [markdown]
# ## Champion and challenger
#
# The other side of the decision: whatever else is in service or was before it; in a registry with a single version, the first
# baseline of its run. First what was measured of both. If they come from different retrains the cutoffs differ, so read these
# numbers side by side, but do not subtract them; the gate compares the two on the *same* rows, and its words are below.

# %%
standing = (found for alias in (CHAMPION, PREVIOUS, CHALLENGER) if (found := tracking.with_alias(task, alias)) and found.number != version.number)
other = next(standing, version)
rival = tracking.load(other) if other is not version else tracking.load(version, f"baselines/{next(iter(evidence['gains']))}")
names = [f"version {version.number} (model)", f"version {other.number} ({words.get(rival.about['baseline'], 'model')})"]
of_both = [evidence["metrics"]["model"], tracking.evidence(other)["metrics"][rival.about["baseline"] or "model"]]
pd.DataFrame({name: {metric: cell(values[metric]) for metric in kind.shown} for name, values in zip(names, of_both, strict=True)})

# %% [markdown]
# Then the question that matters to whoever runs the campaigns: *would other people be contacted?* Both score everybody who is
# asked about today.

# %%
both = pd.DataFrame({names[0]: scores, names[1]: rival.scores(people[list(rival.features)].to_numpy())})
top = both.rank(pct=True) > 0.9
Markdown(
    f"Of {len(both):,} people: rank correlation **{both.corr(method='spearman').iloc[0, 1]:.3f}**; of the {top.iloc[:, 0].sum():,} in the best tenth of "
    f"one, **{top.all(axis=1).sum() / max(1, top.iloc[:, 0].sum()):.0%}** are in the best tenth of the other; "
    f"mean score {both.iloc[:, 0].mean():.3f} and {both.iloc[:, 1].mean():.3f}."
)

# %% [markdown]
# The same in fifths, from the lowest scores to the highest. On the diagonal the two agree; whoever stands far from it is told
# something else by the new model. Those are the people to look up with `encore features explain`.

# %%
fifths = ["lowest", "second", "middle", "fourth", "highest"]
placed = both.apply(lambda column: pd.cut(column.rank(pct=True), np.linspace(0, 1, 6), labels=fifths))
pd.crosstab(placed[names[0]], placed[names[1]])

# %% [markdown]
# ## What the gate said
#
# Rule by rule, about the model that we followed. One `FAIL` is enough to refuse it.
#
# - **beats …** the whole interval of the gain over each baseline lies above zero.
# - **single feature** no feature alone separates the outcomes so well that it smells of the future.
# - **shuffled labels** the same recipe, taught nonsense, must find nothing.
# - **calibration, mean bias** (probabilities) what is promised is what happens, as far as chance allows; **level** (amounts) the sum
#   is right; **window** (dates) four in five of the windows hold.
# - **no worse than the champion** on rows that neither has learned from.

# %%
said = version.tags["encore.reasons"]
pd.DataFrame(re.findall(r"^(pass|FAIL)  (.+?): (.*)$", said, re.MULTILINE), columns=["", "rule", "what was seen, and what was allowed"]).set_index("rule")

# %%
failed = re.findall(r"^FAIL  (.+?):", said, re.MULTILINE)
now = ", ".join(f"version {numbers[task]} is {alias}" for alias, numbers in holders.items() if task in numbers)
Markdown(f"**{said.splitlines()[0]}** · " + (f"it fell over: {', '.join(failed)}" if failed else "every rule held") + f" · {now}")

# %% [markdown]
# A refusal is no accident: it is what the gate is for. *Calibration* alone often fails where few customers stand behind the test,
# and mends itself with more of them. *Beats …* means that the plain rule is as good, so use that and spare yourself the rest.
# *Single feature* wants a person: find out with `encore features describe NAME` how it is made, and sign it off in `encore.toml`
# or leave it out.
#
# ## From here
#
# - The model card of each version, with all of this in words, is in its run: `mlflow server --backend-store-uri` and the address
#   below.
# - `encore check` says before a retrain what each prediction lacks; `encore retrain` decides; `encore publish` puts champions into
#   service; `encore rollback` takes them out again.
# - `examples/schedule/` has the same retrain for cron, systemd, Kubernetes and Airflow.

# %%
workspace.mlflow_uri
