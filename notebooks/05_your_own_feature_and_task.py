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
# # Your own feature, your own task
#
# Spring is coming, and the garden team wants to know who will buy from it. None of the features that Encore ships knows what a garden is: they say
# how much, how often and how broadly somebody buys, because that is what all shops have in common. You know more about yours. This notebook takes
# one idea (*who looks at garden things buys garden things*) the whole way:
#
# **declare a feature → see that it obeys time → declare the prediction → train with and without → let the gate decide.**
#
# It reads the workspace that `ENCORE_WORKSPACE` names (default `../workspace`), and builds in a folder of its own, which it throws away. The
# department below is one of the simulated shop; put in one of yours.

# %%
# %matplotlib inline
import os
import tempfile
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown

from features.aggregates import count_of
from features.calendar import day_number
from features.cycle import repurchase_cycle
from features.events import EventLog
from features.explain import behind, named, rows_of
from features.goals import goal_problems
from features.sources.batch import Batch, canonical_events, canonical_products
from features.store import SnapshotStore
from features.tiles import open_tiles
from features.view import NEVER, Column, Derived, FeatureView
from features.workspace import open_workspace
from training.baselines import baselines_of
from training.evidence import area_under_curve, gather_evidence
from training.fit import BLEND, INDICATIVE, core_of
from training.gates import decide
from training.kinds import KINDS
from training.labels import labels_at, people_now
from training.pack import make_bundle
from training.plots import gains_curve, importance
from training.prepare import prepare
from training.tasks import all_tasks

DEPARTMENT = "garden"

# %% [markdown]
# ## The feature
#
# A feature is *declared*: what is counted, over which days, in which unit, what it says of somebody with no such history, and what it means in
# words that a marketer reads. There is no loop and no SQL to write, and nowhere to make the usual mistake: a declaration has no access to a date,
# so it cannot look past one.
#
# `count_of` is one of the aggregates that Encore's own features are made of. `Derived` is a function of other features, so it sees no raw event at
# all. Division by zero gives no value (`NEVER`), which is the truth: of somebody who looked at nothing, the share that was for the garden is
# unknown, and not zero.

# %%
GARDEN = FeatureView(
    name=DEPARTMENT,
    windows=(30, 90),
    columns=(
        Column("viewed", count_of("views", "department", (DEPARTMENT,)), f"{DEPARTMENT} products looked at", "views"),
        Column("bought", count_of("purchases", "department", (DEPARTMENT,)), f"{DEPARTMENT} products bought", "products"),
        Column(
            "share",
            Derived(
                (f"{DEPARTMENT}_viewed_90d", "activity_product_views_90d"),
                lambda values, norms: values[f"{DEPARTMENT}_viewed_90d"] / values["activity_product_views_90d"],
            ),
            f"share of products looked at in the last 90 days that were of {DEPARTMENT}", "share", empty=NEVER, windows=(None,),
        ),
    ),
)  # fmt: skip
workspace = open_workspace(Path(os.environ.get("ENCORE_WORKSPACE", "../workspace")))
shop = replace(workspace.shop(), views=(GARDEN,))
tiles = replace(workspace.tiles(workspace.shop()), shop=shop)
store = SnapshotStore(Path(tempfile.mkdtemp()))

snapshot = store.get(tiles, tiles.log.complete_until)
dictionary = pd.DataFrame(snapshot.manifest["features"]).set_index("name")
mine = [name for name in snapshot.feature_names if name.startswith(f"{DEPARTMENT}_")]
dictionary.loc[mine, ["meaning", "unit", "without_history", "looks_back_days"]]

# %% [markdown]
# They stand in the dictionary like any other. Look at the values before you believe in them: a feature that is the same for everybody can teach
# nothing, and one that is missing for nearly everybody hardly more.

# %%
snapshot.frame[mine].describe(percentiles=[0.5, 0.9, 0.99]).T.drop(columns="std").rename(index=dictionary["meaning"]).round(2)

# %% [markdown]
# ## Does it obey time?
#
# Three looks, from small to large. First **a shop that you can check in your head**. Ann looks at five things; as of 10 June, how many count in the
# last 90 days? The shop did not *know* of the first one until 12 June (an app that was offline), so on the 10th it could not have acted on it.

# %%
looks = [
    ("2024-06-01 12:00", "2024-06-12 08:00", "hose"),  # happened in time, known too late
    ("2024-06-09 23:59", "2024-06-09 23:59", "hose"),  # the last minute
    ("2024-06-10 00:00", "2024-06-10 00:00", "hose"),  # the first minute that does not count
    ("2024-06-08 09:00", "2024-06-08 09:00", "kettle"),  # another department
    ("2024-03-01 09:00", "2024-03-01 09:00", "hose"),  # 101 days ago
]
rows = pd.DataFrame(looks, columns=["occurred_at", "known_at", "product_id"]).assign(user_id="ann", event="product_view")
rows = rows.assign(event_id=rows.index.astype(str), **{name: pd.to_datetime(rows[name], utc=True).dt.as_unit("us") for name in ("occurred_at", "known_at")})
goods = canonical_products(pd.DataFrame({"product_id": ["hose", "kettle"], "department": [DEPARTMENT, "kitchen"]}))
small = EventLog(Path(tempfile.mkdtemp()), "UTC", "EUR")
small.append(Batch("by hand", canonical_events(rows), date(2024, 7, 1), goods))
tiny = open_tiles(small, replace(shop, attributes=()), Path(tempfile.mkdtemp()))
days = (date(2024, 6, 10), date(2024, 6, 11), date(2024, 6, 13))
pd.DataFrame({day: store.get(tiny, day).frame.loc["ann", [name for name in mine if "viewed" in name]] for day in days}).astype(int)

# %% [markdown]
# One on the 10th, two on the 11th, three when the late one is known.
#
# Second, **one person of the shop**, with the events behind the number. It is what to look at when a value surprises you; `encore features explain`
# prints the same for any feature in the catalogue.

# %%
then = tiles.log.complete_until - timedelta(days=90)
before = store.get(tiles, then)
feature, known = named(f"{DEPARTMENT}_viewed_30d", shop, tiles.log.kinds, tiles.products)
who = before.frame[feature.name].idxmax()
seen = behind(feature, known, rows_of(tiles.log, who, then), then, shop)
Markdown(f"**{who}**, {feature.meaning}, as of {then}: **{before.frame.loc[who, feature.name]:.0f}**; events behind it: **{len(seen)}**. The latest:")

# %%
seen[["occurred_at", "known_at", "event", "product_id"]].head()

# %% [markdown]
# Third, **everybody, counted another way**: the snapshot is made by compiled loops over daily tiles; here pandas counts the raw events before that
# midnight.

# %%
asked_for = {"department": DEPARTMENT}
raw = tiles.before(then).events("product_view", asked_for)
plain = raw[raw["day"] >= day_number(then) - 90].groupby("user_id").size().reindex(before.frame.index, fill_value=0)
Markdown(f"{len(plain):,} people, {plain.sum():,} events. Largest difference: **{np.abs(plain - before.frame[f'{DEPARTMENT}_viewed_90d']).max():g}**.")

# %% [markdown]
# ## The prediction
#
# A goal says whom the question is about, what counts, and within how many days. As a table under `[[goals]]` in `encore.toml` these same words are
# all it takes; from then on it is trained, judged, served and exported like Encore's own predictions. What is wrong is said before anything runs:

# %%
goal = {
    "name": f"buys_{DEPARTMENT}",
    "question": f"Will this customer buy something of {DEPARTMENT} within {{horizon}} days?",
    "include": [{"feature": "orders_count", "at_least": 1}],
    "event": "order_item",
    "where": {"department": DEPARTMENT},
    "horizon": 30,
}
goal_problems({**goal, "where": {"departmnt": DEPARTMENT}, "include": [{"feature": "outcome", "at_least": 1}]})

# %%
shop = replace(shop, goals=(goal,))
tiles, until = replace(tiles, shop=shop), tiles.log.complete_until
asked = all_tasks(shop)[goal["name"]].at(shop, repurchase_cycle(tiles, until))
pd.Series(asked.describe()).loc[["question", "eligible", "horizon_days", "kind"]].to_frame("")

# %% [markdown]
# ## What cheating would look like
#
# Before training, an experiment that is worth doing once in your life: products put into the cart in 90 days, as a query would count them. Once the
# 90 days end at the cutoff, once 30 days later, as they do in many a table that was joined by customer and not by customer and date. How well does
# each of the two columns, alone, tell who buys in these 30 days from who does not?

# %%
labels = labels_at(asked, tiles, then, people_now(tiles, before.frame.index))
of_them = asked.eligible(before.frame).to_numpy(dtype=bool) & labels.asked
ends = {"ends at the cutoff": then, "ends 30 days later": then + timedelta(days=30)}
carts = {words: tiles.between(end - timedelta(days=90), end).events("cart_add", asked_for).groupby("user_id").size() for words, end in ends.items()}
counted = pd.DataFrame(carts).reindex(before.frame.index).fillna(0)[of_them]
counted.apply(lambda column: area_under_curve(labels.y[of_them], column)).round(3).rename("AUC alone").to_frame()

# %% [markdown]
# The second one is too good to be true, and it is not true: on the day when you would have to use it, it does not exist yet. The gate calls any
# single feature above .9 a leak until somebody signs it off. Declared features cannot do this at all, which is why there is nothing to remember.
#
# ## With and without
#
# A new feature always costs something: a column to compute, watch and explain for years. So it has to earn its place against *the same model
# without it*, on the same people, at dates later than anything that either has learned from.

# %%
ready = prepare(asked, until, tiles, store)
others = tuple(name for name in ready.train.names if name not in mine)
fewer = replace(ready.train, X=ready.train.of(others), names=others)
fit = core_of(asked, INDICATIVE if ready.indicative else BLEND)  # with few positives a regularised logistic, no trees
model = make_bundle(asked, ready.train, tiles, ready.train.names, fit)
rivals = {"without": make_bundle(asked, fewer, tiles, others, fit)}
rivals |= {name: make_bundle(asked, ready.train, tiles, columns, how) for name, (columns, how) in baselines_of(asked, ready.train).items()}

Markdown(
    f"Learned from {len(ready.train):,} rows at {len(ready.split.train)} cutoffs ({ready.train.y.mean():.1%} of them positive), judged on "
    f"{len(ready.test):,} rows at {len(ready.split.test)} later ones. {len(ready.train.names)} features with, {len(others)} without."
)

# %% [markdown]
# The model without is made one of the *baselines*, beside the recency rule and the RFM logistic, so that it gets the same scrutiny. First each
# one's AUC, then what the new model gains over it, with 95 % intervals from a bootstrap over customers. Differences are taken on the same rows,
# which is why their intervals are so much narrower than those of the AUCs.

# %%
evidence = gather_evidence(asked, model, rivals, ready.train, ready.test)
each = {who: metrics["auc"] for who, metrics in evidence.metrics.items()}
gained = {who: metrics["auc"] for who, metrics in evidence.gains.items()}
pd.DataFrame(each).T.add_prefix("AUC: ").join(pd.DataFrame(gained).T.add_prefix("gain over it: ")).round(3)

# %% [markdown]
# Is it one lucky month? The same by cutoff.

# %%
pd.DataFrame({cutoff: {who: metrics["auc"]["value"] for who, metrics in found.items()} for cutoff, found in evidence.by_cutoff.items()}).T.round(3)

# %% [markdown]
# What it is worth to the garden team: with so many letters, so many of the buyers are reached.

# %%
gains_curve(ready.test.y, {"with": evidence.scores["model"], "without": evidence.scores["without"], "recency rule": evidence.scores["rule"]})

# %% [markdown]
# And where the model looks now. Neighbours that say the same share the credit, so read them together.

# %%
importance(evidence.importance, dictionary["meaning"].to_dict(), top=12)

# %% [markdown]
# ## The gate
#
# The last word has the same gate that stands before every model of Encore. The one without plays the champion, too: it must not be lost to.

# %%
decision = decide(evidence, ready.test, rivals["without"], KINDS[asked.kind], ready.split.provisional, ready.indicative)
pd.DataFrame(
    [(reason.verdict, reason.rule, reason.text) for reason in decision.reasons], columns=["", "rule", "what was seen, and what was allowed"]
).set_index("rule")

# %%
Markdown(f"**{decision.text.splitlines()[0]}**")

# %% [markdown]
# Most ideas end differently, and that is no failure. In this shop we tried *activity of the last three days* for *orders within a week*, which
# sounds as good: the interval of its gain held zero, since the features that were there already said it. What helped here was knowledge that they
# did not have, aimed at a question that asks for it.
#
# ## For good
#
# - The view goes into a file, `features/views/garden.py`, and one line of `all_views`; the goal into `encore.toml`:
#
#   ```toml
#   [[goals]]
#   name = "buys_garden"
#   question = "Will this customer buy something of garden within {horizon} days?"
#   include = [{ feature = "orders_count", at_least = 1 }]
#   event = "order_item"
#   where = { department = "garden" }
#   horizon = 30
#   ```
#
# - `encore check` says what the prediction lacks, `encore retrain` trains and judges it, `encore publish` serves it. The same declaration is then
#   counted by the compiled loops, by SQL on Spark, and by the service for vectors that nobody stored; the tests hold them against each other by
#   themselves.
# - CONTRIBUTING.md has the manner: a case in `tests/spec/test_views.py` that a person can check in the head, as Ann's above.
