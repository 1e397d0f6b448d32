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
# # Did the campaign work?
#
# *"Those who opened the mail bought three times as often as those who did not."* True, and worth nothing: they did so before, too. What a
# campaign **changed** is only seen beside people who could have got it and, by lot, did not. This notebook takes one campaign from the
# log to an answer with an interval, meets a placebo on the way, and shows what the popular shortcuts would have said.
#
# It plays a shop of its own, larger than the one of `encore demo` and in a folder that it throws away: only where the effect was *planted* can you see
# whether the method finds it. None of the campaigns below was picked by its result. On your own shop leave out the two lines that play, open your workspace,
# and put in your campaigns.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from features.calendar import day_of
from features.shop import campaign_lift, simulate
from features.workspace import open_workspace
from serving.audiences.power import detectable
from serving.campaigns import store
from serving.campaigns.enrol import enrol_from_log
from serving.campaigns.outcomes import outcomes_of
from serving.campaigns.pictures import days_plot, funnel_plot
from serving.campaigns.plan import Plan, checked
from serving.campaigns.report import make_monitor, make_report
from serving.ledger import Ledger

CAMPAIGN, PLACEBO, RUNNING = "campaign-02", "campaign-03", "campaign-04"  # before the first one hardly anything is known of anybody
DAYS = 21  # for so long the offer is valid: what happens later is not counted

# %% [markdown]
# ## What ran?
#
# The log knows whom a campaign was sent to (`campaign_received`) and whom a lot kept out (`held_out`). Where the second column is
# empty there is nothing to learn below: **no control, no claim**.

# %%
workspace = open_workspace(Path(tempfile.mkdtemp()), environment={})
workspace.shop_file.write_text('name = "A played shop"\nzone = "UTC"\ncurrency = "EUR"\n')
shop = workspace.shop()
played = simulate(users=5000, days=150, seed=1)
workspace.log(shop).append(played.batch)
tiles = workspace.tiles(shop)
ledger = Ledger(workspace.ledger_url)
received, kept_out = (tiles.ever().keys(name) for name in ("received", "kept_out"))
ran = pd.DataFrame(
    {
        "day": received.groupby("key")["day"].min().map(day_of),
        "sent": received.groupby("key")["user_id"].nunique(),
        "kept out by lot": kept_out.groupby("key")["user_id"].nunique(),
    }
)
ran

# %% [markdown]
# ## Say first, look later
#
# A campaign is logged with everything that will decide how it is judged: the goal, the days that count, the share kept out, what a
# message and a coupon cost, what an order earns, what was hoped for. It cannot be changed afterwards. Had it been cut from a saved audience
# (`encore campaign start --audience ...`), Encore would draw the lot itself and note each member's score; this one was drawn elsewhere, so
# the log says who is in which group.

# %%
common = {"horizon": DAYS, "shares": {"treatment": 0.5, "control": 0.5}, "incentive": "20 % coupon", "channel": "e-mail"}
money = {"contact_cost": 0.05, "coupon_cost": 4.0, "margin": 14.0, "target": 0.2}
plans = [checked(Plan(name, ran.loc[name, "day"], **common, **money)) for name in (CAMPAIGN, PLACEBO, RUNNING)]
logged = {plan.name: store.save_campaign(ledger, plan)[0] for plan in plans}
entered = {name: enrol_from_log(ledger, tiles, None, campaign) for name, campaign in logged.items()}
pd.DataFrame({name: store.group_sizes(ledger, campaign) for name, campaign in logged.items()}).T

# %% [markdown]
# ## The answer
#
# Everybody counts in the group that the lot gave them, opened or not (*intent to treat*). The **plain** line is treatment less control.
# The **adjusted** one takes the orders and the spend of the 91 days before into account (Lin's estimator): people who bought often before will buy
# often now, in both groups, and that part of the noise can be taken away. It moves the middle a little and makes the interval shorter; *worth* says
# as how many times more members. A score at entry makes it worth more.

# %%
_, report = make_report(workspace, ledger, CAMPAIGN)
answer = pd.DataFrame({how: report["effect"][how] for how in ("adjusted", "plain")}).T[["value", "low", "high", "p", "method"]]
answer.rename(columns={"value": "effect (share of members)"})

# %%
Markdown(f"**{report['verdict']}** The adjustment is worth **{report['effect']['worth']:.2f} times** the members.")

# %% [markdown]
# In money. The cost is a fact; what was added is an estimate, and its interval goes through every line. Where the lower end of what was added is not
# above zero, one more order may have cost anything: *no limit*.

# %%
economics = report["economics"]
pd.DataFrame({"orders added": economics["added"], "profit, EUR": economics["profit"], "cost of one more, EUR": economics["cost_per_added"]}).T.round(2)

# %% [markdown]
# ## The funnel, and the trap in it
#
# How many came how far. Each bar is a part of the one before it.

# %%
funnel_plot(report)

# %% [markdown]
# The trap: compare those who were **reached** with those who were not. Here it is for another campaign, `campaign-03`, which in this shop does
# nothing at all: a placebo. Whoever opens mails is another kind of customer all along (for one thing, still a customer), so the comparison finds a large
# "effect" of nothing. The lot knows better.

# %%
outcomes = outcomes_of(tiles, logged[PLACEBO].plan, store.members(ledger, logged[PLACEBO]))
opened = outcomes.treated & (outcomes.messages["opened"] > 0)
pd.Series(
    {
        "treated, opened": outcomes.converted[opened].mean(),
        "treated, did not open": outcomes.converted[outcomes.treated & ~opened].mean(),
        "treatment (by lot)": outcomes.converted[outcomes.treated].mean(),
        "control (by lot)": outcomes.converted[~outcomes.treated].mean(),
    }
).mul(100).round(1).rename("per cent who bought during the placebo").to_frame()

# %% [markdown]
# The other shortcut is *before and after*. The blue line rises when the campaign begins; whether the campaign did it, only the dashed one can say.
# Members of an audience are chosen at a special moment of their lives, so their days before and after differ without any campaign.

# %%
days_plot(report)

# %% [markdown]
# ## A placebo
#
# That same placebo by the method of this notebook. In a played shop every third campaign is one. A method that finds something here would find it
# anywhere; by chance it does so with one placebo in twenty, which is what *95 %* means. So ask for one answer, the one that was planned.

# %%
_, nothing = make_report(workspace, ledger, PLACEBO)
Markdown(f"**{nothing['verdict']}**")

# %% [markdown]
# And the truth, which no real shop ever sees: what was planted, beside what was found without knowing it.

# %%
both = {CAMPAIGN: report["effect"]["adjusted"], PLACEBO: nothing["effect"]["adjusted"]}
truth = {
    name: {"planted": campaign_lift(played, name).mean(), "found": found["value"], "low": found["low"], "high": found["high"]} for name, found in both.items()
}
pd.DataFrame(truth).T.mul(100).round(1).rename_axis("points of the conversion rate")

# %% [markdown]
# How much the size matters: in a shop of 1,000 users instead of 5,000 we looked at all ten campaigns that were over. Seven of the ten had a planted effect,
# and one of these was found; of the three placebos one "worked" and one "did harm". With groups of a hundred or two that is what chance looks like, and whoever
# had picked the nicest of the ten would have had a story, and no effect.

# %% [markdown]
# ## Not yet
#
# The offer of the last campaign is still valid, so some of its orders have not been placed. A final report is refused until the window of the last member is
# over; meanwhile the monitor counts, and raises what is off. Its tests may be asked daily: they are made for it. It shows no effect, because who
# looks every day and stops at a good moment finds effects that are not there.

# %%
_, watched = make_monitor(workspace, ledger, RUNNING)
said = ", ".join(alarm["what"] for alarm in watched["alarms"]) or "nothing is off"
Markdown(f"Complete until {watched['complete_until']}: **{said}**. {watched['note']}")

# %% [markdown]
# ## How large a hold-out?
#
# Before the next campaign: which rise of the conversion rate would be found four times out of five, for some shares that are kept out? The
# rate is that of control above, and `worth` is what the adjustment has just shown. Keeping more people out costs orders if the campaign works,
# and saves coupons if it does not.

# %%
size, rate, worth = len(store.members(ledger, logged[CAMPAIGN])), report["groups"]["control"]["rate"]["value"], report["effect"]["worth"]
found = {f"{kept:.0%}": detectable(round(size * (1 - kept)), round(size * kept), rate, worth=worth).effect for kept in (0.05, 0.1, 0.2, 0.3, 0.5)}
pd.Series(found, name="smallest rise that is found, in points").mul(100).round(1).rename_axis("kept out").to_frame()

# %% [markdown]
# ## From here
#
# - `encore campaign start`, `enrol`, `monitor`, `report` do the same from the command line, and write a page with all pictures; over HTTP it is
#   `POST /v1/campaigns`.
# - An effect is that of *this* incentive by *this* channel on *these* people. Whether a smaller coupon would have done is the question of the next lot.
# - `bench/EFFECT.md` shows how often the intervals hold the truth where it is known.
