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
# # A look-alike for a launch
#
# A new product is out. Some weeks ago samples of it went to a few customers, and some of those bought the full size. Everybody else has not heard
# of it, and there is budget to write to a hundred. **Whom?** Nobody of them can have bought it yet, so there is no outcome to predict; but there is
# a list of people who liked it, and the question becomes: *who resembles them?*
#
# **receivers → seed → what makes it different → is it any good? → an audience of the size you want → what became of it → a second round.**
#
# It reads the workspace that `ENCORE_WORKSPACE` names (default `../workspace`) and writes seeds and audiences to a folder of its own, which it
# throws away. Sample and product below are those of the simulated shop; put in yours. On the command line it is `encore lookalike seed`,
# `contrast`, `expand`, `outcomes`.

# %%
# %matplotlib inline
import os
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from features.bought import with_bought
from features.workspace import open_workspace
from training.lookalike.afterwards import sentences as afterwards_in_words
from training.lookalike.audiences import keep_audience
from training.lookalike.contrast_page import contrast_plot, sentences
from training.lookalike.expand import expand, people_of, rank
from training.lookalike.expand_run import later_of_wave
from training.lookalike.expansion_page import IN_WORDS, proof_plot, reach_plot
from training.lookalike.methods import fit_likeness
from training.lookalike.reach import Dial
from training.lookalike.second_round import changes, second_seed, wave_of
from training.lookalike.seed_report import headlines
from training.lookalike.seed_request import SeedRequest, make_requested
from training.lookalike.suggest import suggest_seed

SAMPLE, PRODUCT, DAYS = "sampling-1", "care-full-size", 60
SIZE = 100  # what the budget pays for

shown = open_workspace(Path(os.environ.get("ENCORE_WORKSPACE", "../workspace")))
desk = open_workspace(Path(tempfile.mkdtemp()), environment={})
borrowed = [(desk.root / name).symlink_to(shown.root.resolve() / name) for name in ("encore.toml", "log", "tiles", "snapshots", "releases")]
tiles = desk.tiles(desk.shop())
today = datetime.now(UTC).date()

# %% [markdown]
# ## Which seed?
#
# Receivers of a sample who bought are the best seed there is where goods are bought often and cost little: you learn soon who likes them. For a
# sofa you would wait for years, and take super users instead. Encore looks at cycle and price and says which, and why.

# %%
advice = suggest_seed(tiles, desk.snapshots.get(tiles, tiles.log.complete_until), product=PRODUCT)
Markdown("\n".join(f"- {line}" for line in (f"seed: **{advice['seed']}**", *advice["why"], f"`{advice['next']}`")))

# %% [markdown]
# ## The seed
#
# Who received the sample and bought within the days is the *seed*; who received it and did not is an *explicit negative*, which is worth as much:
# both got the same box, so what tells them apart is the taste for it, and not who was sent one. All of them are seen as they were *before* the box
# came. What they did later would describe the launch, and not the people.

# %%
request = SeedRequest("full-size", campaign=SAMPLE, bought=(PRODUCT,), within=DAYS)
seed, report = make_requested(desk, request, today)
Markdown("\n".join(f"- {line}" for line in headlines(report)))

# %% [markdown]
# *Coherence* asks, before any model: is there anything that these people have in common? It is set against random groups of the same size, because
# with many features and few people even a random group looks special. And read the warnings: they are cheap now.
#
# ## From seed to audience
#
# The whole work in one call: contrast the seed, choose the method, prove it, fit, and rank the candidates, here as they were when the days to buy
# were over. It is the slow cell of this notebook, nearly all of it for the proof.

# %%
launch = seed.as_of + timedelta(days=DAYS)
first = expand(desk, tiles, seed, launch)
proof = first.proof
Markdown(
    f"{len(first.ranking.users):,} candidates ranked as of **{launch}** by **{IN_WORDS[proof.choice.chosen]}**, over {len(first.bundle.features)} features."
)

# %% [markdown]
# ## Who are they?
#
# In words, for the person who writes the letter: the strongest differences between those who bought and those who did not, that are more than
# chance after all tests were corrected together.

# %%
Markdown("\n".join(f"- {line}" for line in sentences(first.contrast)) or "Nothing known of them tells the two apart by more than chance.")

# %%
contrast_plot(first.contrast)

# %% [markdown]
# What is *not* in it matters as much. The seed was made by a campaign and what campaigns leave behind says who was chosen, so such features may not
# describe it, nor may any that alone tells seed from rest too well: a definition is no likeness.

# %%
reasons = pd.Series(first.bundle.about["left_out"], dtype=object)
reasons.groupby(reasons).agg(features="size", such_as=lambda some: ", ".join(some.index[:3])).rename_axis("left out, because")

# %% [markdown]
# ## Is it any good?
#
# The only honest question to ask of a look-alike: hide a fifth of the seed, learn from the rest, and see how many of the hidden turn up at the top
# of the ranking. Ten times over, beside everything that you might have done instead: the spend rule, RFM, neighbours, the centroid. With explicit
# negatives the hidden are looked for among hidden negatives: receivers were chosen, and finding *receivers* among everybody is no art.

# %%
recall = {IN_WORDS[method]: {f"at {share} %": measured[share]["value"] for share in ("5", "10", "20")} for method, measured in proof.recall.items()}
pd.DataFrame(recall).T.sort_values("at 10 %", ascending=False).round(2)

# %%
proof_plot(proof)

# %% [markdown]
# Look at the width of the intervals before you look at the points. On the right, what more receivers would be worth; with thirty it is a single
# point yet. Random finds ten per cent in the first ten, the dotted line; the gate lets a look-alike pass if it surely finds more than that. Whether
# it also beats a rule that costs nothing is said, and not required:

# %%
best_rule = max(("spend", "rfm", "centroid"), key=lambda rule: proof.recall[rule]["10"]["value"] if rule in proof.recall else 0.0)
gap = proof.gain[best_rule]["10"]
Markdown(
    f"{proof.hidden} of {proof.seed} hidden. Ours less the best simple rule ({IN_WORDS[best_rule]}): "
    f"**{gap['value']:+.2f} [{gap['low']:+.2f}, {gap['high']:+.2f}]**. "
    + (
        "Surely better than the rules."
        if proof.better_than_rules
        else "**Not surely better than a rule**: with so small a seed nobody can know. A larger one is the cure."
    )
)

# %% [markdown]
# (In the simulated shop whoever likes the new product is by construction older and more loyal, so the spend rule has half of the truth for
# nothing. `bench/LOOKALIKE.md` has data and larger seeds where it is surely beaten.)
#
# The log knows something else: what the most alike went on to do, without any letter, beside others who were as recent, as frequent and as good
# customers. This comparison is *matched*, which is not *by lot*: an effect of a campaign it is not.

# %%
Markdown("\n\n".join(afterwards_in_words(first.afterwards)) if first.afterwards else "The log ends at the seed's date.")

# %% [markdown]
# ## Three dials, one curve
#
# How large? Say a *size* (the budget), a *share* of the candidates, or a *similarity*: 50 means that the last one in is as alike as the typical
# seed user (as models see him that have not met him). The three are one dial with three scales, and the curve says what reach costs.

# %%
alike = first.ranking.alike
dials = {"size 100": Dial(size=SIZE), "the best 10 %": Dial(top_percent=10), "similarity 50 or more": Dial(similarity=50)}
taken = {words: dial.of(alike) for words, dial in dials.items()}
last = pd.Series(alike).sort_values(ascending=False, ignore_index=True)
pd.DataFrame(
    {words: {"users": size, "per cent": 100 * size / len(alike), "similarity of the last one": last[size - 1]} for words, size in taken.items()}
).T.round(1)

# %%
reach_plot(first)

# %% [markdown]
# A score ranks, and is no probability: a seed does not tell how many like it there are. If you know that from elsewhere, `--base-rate` turns it
# into one.
#
# ## The audience, and what became of it
#
# It is kept by date, so that outcomes are held against those who were in it. A refresh keeps members unless somebody else is clearly more alike:
# nobody is exchanged for a difference in the third decimal in the middle of a campaign.

# %%
audience, _ = keep_audience(desk, seed.name, launch, first.ranking.users, first.ranking.scores, SIZE, sent=True)
pd.DataFrame({"user": audience.users, "score": audience.scores}).head().round(2)

# %% [markdown]
# Two months on. Who of them bought? (Here the log itself tells; you may have a list from elsewhere: ids, addresses, or hashes of them.)

# %%
sold = tiles.between(launch, launch + timedelta(days=DAYS)).keys("purchases")
buyers = sold.loc[sold["key"] == PRODUCT, "user_id"].unique()
wave = wave_of(desk, tiles, seed.name, list(buyers))
within = "too few of either for an AUC" if wave["auc"] is None else f"AUC {wave['auc']['value']:.2f} [{wave['auc']['low']:.2f}, {wave['auc']['high']:.2f}]"
rate = wave["rate"]
Markdown(
    f"**{rate['value']:.0%}** [{rate['low']:.0%}, {rate['high']:.0%}] of {len(wave['users'])} bought it. Within the audience the ranking had {within}: "
    f"these are already the most alike, so little is left to rank. {wave['not_in_audience']} other buyers were not in it, those of the seed among them."
)

# %%
Markdown("\n\n".join(afterwards_in_words(later_of_wave(desk, seed.name, launch))))

# %% [markdown]
# ## Second round
#
# Now you know more than before: who converted joins the seed, who was reached and did not is an explicit negative. For a model of likeness that is
# the most valuable kind of data there is, because it comes from just the region where it was unsure.

# %%
second = second_seed(desk, seed, wave, "full-size-2", today)
then = with_bought(desk.snapshots.get(tiles, second.as_of), tiles, first.bundle.features)
model = replace(first.bundle, model=fit_likeness(people_of(second, then, first.bundle.features), proof.choice.parts))
now = tiles.log.complete_until
changed = changes(rank(desk, tiles, seed, first.bundle, now), rank(desk, tiles, second, model, now), SIZE)
Markdown(
    f"The second seed has {len(second.users)} users and {len(second.negatives)} explicit negatives; the first had {len(seed.users)} and "
    f"{len(seed.negatives)}. On {now} the two models rank {changed['candidates']} candidates with rank correlation **{changed['rank_correlation']:.2f}**. "
    f"Of the best {changed['size']} by the new one, **{changed['enter']}** the old one would not have written to."
)

# %% [markdown]
# This is the method of the first round on the seed of the second; `encore lookalike outcomes` chooses and proves anew, too. Read that proof with
# care: the first model helped to choose this seed, so finding its hidden part is easier than it should be. The AUC of the wave above is not
# flattered: those outcomes came later.
#
# ## From here
#
# - `encore lookalike expand full-size --size 5000` does all of this on the workspace itself: page with pictures, model in MLflow, audience as CSV;
#   after the next `encore publish` its scores and its membership are served like any other prediction's. Over HTTP it is `POST /v1/lookalikes`.
# - `encore lookalike contrast full-size --by age --by layer` cuts the response by two factors.
# - Did *writing* to them do anything? That is another question, and notebook 04 is about it: keep a part of the audience out by lot.
# - The ids of a seed are deleted after 365 days, or at once by `encore lookalike forget`. Reports stay: they name nobody.
