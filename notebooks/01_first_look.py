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
# # A first look
#
# You have a workspace: `encore demo` made one, or you ran `ingest`, `retrain` and `publish` on your own shop. This
# notebook walks through it from the raw end to the useful end:
#
# **people and their behaviour → models and why they were let through → one customer's score, explained → an audience.**
#
# It computes nothing of its own. Every cell is one or two calls of the packages that the `encore` commands are made of,
# so whatever you see here you can reach from your own code. It reads the workspace and changes nothing in service.
#
# The folder comes from `ENCORE_WORKSPACE`, else it is `workspace` beside this project.

# %%
import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Image, Markdown

from features.cycle import repurchase_cycle
from features.workspace import open_workspace
from serving.audiences.cut import cut
from serving.audiences.rules import Rule
from serving.pointer import current_id
from serving.release import load_release
from serving.scorer import Scorer
from training.tracking import Tracking

pd.set_option("display.max_colwidth", 100)

beside = next((folder for folder in (Path("workspace"), Path("../workspace")) if folder.exists()), None)
workspace = open_workspace(Path(os.environ["ENCORE_WORKSPACE"]) if "ENCORE_WORKSPACE" in os.environ else beside)
shop = workspace.shop()

Markdown(f"**{shop.name}** · days begin at midnight in {shop.zone} · money in {shop.currency} · predicts {', '.join(shop.tasks) or 'what the data permit'}")

# %% [markdown]
# ## The people
#
# A *snapshot* is everybody's behaviour vector as of one midnight: only what happened strictly before it counts. Read it
# as a photograph, not as a live table. The one below is the latest that the event log can vouch for.

# %%
tiles = workspace.tiles(shop)
snapshot = workspace.snapshots.get(tiles, tiles.log.complete_until)

Markdown(f"As of **{snapshot.as_of}**: {snapshot.table.num_rows:,} people, {len(snapshot.feature_names)} features each.")

# %% [markdown]
# Each person stands at one of three *stages*, named after the order they may place next. They are three different
# problems: what wins a first order is rarely what wins a fourth.

# %%
snapshot.frame["stage"].value_counts().to_frame("people")

# %% [markdown]
# The shop's own clock, the *repurchase cycle*: take each returning customer's mean gap between orders; the 90th
# percentile of those is three cycles. Horizons that nobody set in `encore.toml` derive from it. It only sees people who
# came back, so it errs on the short side.

# %%
repurchase_cycle(tiles, snapshot.as_of)

# %% [markdown]
# ## What is known about them
#
# The features come with a dictionary: what each one means, what it counts, and what it says about a person who never
# did the thing: `0` for a count, no value (`NaN`) where zero would be a lie, as for the days since something that never was.

# %%
dictionary = pd.DataFrame(snapshot.manifest["features"]).set_index("name")
dictionary["family"].value_counts(sort=False).to_frame("features")

# %%
some = dictionary.groupby("family", sort=False).sample(2, replace=True, random_state=7).drop_duplicates()
some[["family", "meaning", "unit", "without_history", "actionable"]]

# %% [markdown]
# How the same ones are distributed, with the dictionary's words in place of names. Amounts are in cents, so that sums are
# exact; `count` falls short of everybody where a feature has no value for some.

# %%
snapshot.frame[some.index].describe(percentiles=[0.1, 0.5, 0.9]).T.drop(columns="std").rename(index=dictionary["meaning"]).round(2)

# %% [markdown]
# ## The champions
#
# Models live in MLflow's registry; the alias `champion` says which version of each may be published. `kind` is worth a
# look: where no model has passed the gate, a plain baseline is champion, and says so in every answer it gives.

# %%
tracking = Tracking(workspace, shop.name)
champions = {version.task: version for version in tracking.champions()}
pd.DataFrame({task: version.tags for task, version in champions.items()}).T[["encore.kind", "encore.decision", "encore.as_of"]]

# %% [markdown]
# From here on we follow one of them.

# %%
task = "repeat_order" if "repeat_order" in champions else next(iter(champions))
champion = champions[task]
bundle = tracking.load(champion)
words = pd.DataFrame(bundle.about["features"]).loc["meaning"]

Markdown(
    f"### {bundle.about['question']}\n\nAsked about: {bundle.about['eligible']}. Learned from {bundle.about['rows']:,} rows at cutoffs "
    f"{bundle.about['first_cutoff']} to {bundle.about['last_cutoff']}; {bundle.about['base_rate']:.1%} of them were positive."
)

# %% [markdown]
# ## The evidence
#
# A number means little without what it has to beat. `rule` is the one-column rule that people use today (often "who
# bought last?"), `rfm` a logistic regression on recency, frequency and monetary value. All three scored the same people
# at the same cutoffs, later than anything they had learned from, with a gap of one horizon in between. (Where a baseline is
# champion, `model` is the challenger that the gate refused.)

# %%
evidence = tracking.evidence(champion)
pd.DataFrame(evidence["metrics"]).map(lambda measured: measured["value"], na_action="ignore").round(3)

# %% [markdown]
# The same with 95 % intervals, from a bootstrap over customers (not over rows: one customer appears at several cutoffs,
# and pretending otherwise would make the intervals too narrow). These are *differences*, model minus baseline, which is
# what the gate looks at.

# %%
pd.DataFrame({who: gained["auc"] for who, gained in evidence["gains"].items()}).T[["low", "value", "high"]].add_prefix("AUC gain: ").round(4)

# %% [markdown]
# The picture that decides budgets: contact the best-ranked *x* percent, reach *y* percent of those who would have done it.
# Its siblings (ROC, precision-recall, reliability, lift, stability over time, importance) lie in the same run.

# %%
Image(data=tracking.pictures(champion)["gains"])

# %% [markdown]
# ### Why it was let through, or not
#
# The gate is not a matter of taste. It wants an interval that lies wholly above each baseline, no single feature that is
# too good to be true, chance-level results on shuffled labels, honest probabilities, and no loss against the champion
# before it. These are its words about the latest decision on this version.

# %%
Markdown(f"```\n{champion.tags['encore.reasons']}\n```")

# %% [markdown]
# What it looks at: the mean absolute share of the log-odds. Strongly correlated features divide the credit between them,
# so read neighbours together.

# %%
pd.Series(evidence["importance"], name="mean |share of log-odds|").nlargest(12).rename(index=words).to_frame().round(3)

# %% [markdown]
# ## The release
#
# Serving never talks to MLflow. `encore publish` packs the champions, the vectors and everybody's scores into one hashed,
# read-only *release*, and the service answers from that. So there are two copies of the model, and one question: do they
# agree? Here is the model from the registry, given the vectors of the release, against the scores that are being served.

# %%
release = load_release(workspace.releases / current_id(workspace.releases))
served = release.scores[task].score
eligible = ~np.isnan(served)
again = bundle.scores(release.vectors[:, bundle.align(release.features)])

Markdown(f"Release `{release.id}`: {eligible.sum():,} people scored for `{task}`; largest difference **{np.abs(again - served)[eligible].max():g}**.")

# %% [markdown]
# ## One person
#
# A few people, as a journey tool would receive them: the three best, the first three of the snapshot, and somebody we have
# never heard of. A status is an answer, not an error: `NOT_ELIGIBLE` is known but not asked about, and nobody falls back
# silently to another model. `percentile` is among all who are eligible, `stage_percentile` among those of the same stage.

# %%
scorer = Scorer(release, good_for=timedelta(hours=48))
best = cut(release, Rule(task, top_n=3))
asked = [*(release.users[row].decode() for row in best.rows), *snapshot.user_ids[:3], "nobody-we-know"]
pd.DataFrame(map(vars, scorer.score(task, asked))).set_index("user_id")[["status", "stage", "probability", "percentile", "stage_percentile", "band"]]

# %% [markdown]
# `STALE` would mean: scored longer ago than 48 hours, so decide for yourself. In a demo on data of years past the clock
# that counts is the one of the scoring, not the one of the data.
#
# And now *why*, for the first of them. The contributions are exact shares of the log-odds (no sampling, no surrogate), with
# a sign, in words, and with a note of whether marketing can do anything about it.

# %%
answer = scorer.score(task, asked[:1], reasons=True)[0]
pd.DataFrame(map(vars, answer.reasons or ()))[["text", "effect", "contribution", "actionable"]].round(3)

# %% [markdown]
# ## An audience
#
# The best tenth. `expected` is the sum of their probabilities, with the interval that chance alone gives it; `at_random` is
# what as many people drawn blindly would bring. (A look-alike ranks and has no probability, so there both are empty.)
# The difference is what the model is worth *as a ranking*. What a campaign will cause is another question, and only a
# held-out control group answers it: these people may well have ordered without you.

# %%
audience = cut(release, Rule(task, top_percent=10))
pd.DataFrame([vars(audience)])[["eligible", "expected", "low", "high"]].assign(at_random=audience.at_random, size=audience.size).round(1)

# %% [markdown]
# Who they are, beside everybody who was eligible: the median of what the model cares about most.

# %%
leading = list(pd.Series(evidence["importance"]).nlargest(8).index)
vectors = pd.DataFrame(release.vectors, columns=release.features)[leading]
pd.DataFrame({"audience": vectors.iloc[audience.rows].median(), "all eligible": vectors[eligible].median()}).rename(index=words).round(2)

# %% [markdown]
# ## From here
#
# - The model card of every version is in its MLflow run, together with the plots, the evidence and both bundles. To browse
#   them: `mlflow server --backend-store-uri` and the address below.
# - `encore serve` answers the same scores and audiences over HTTP; its pages under `/docs` say how.
# - `encore score` writes everybody's scores into Parquet files of a score run, or with `--out` into one.
# - A feature is one file in `features/views/`, a prediction one file in `training/tasks/`. Reading one of each is the
#   quickest way to know what this can do for your shop.

# %%
workspace.mlflow_uri
