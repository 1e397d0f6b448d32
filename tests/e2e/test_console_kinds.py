"""Every kind of prediction, a look-alike and a campaign on the console's pages. `make pictures`: the docs' pictures of the very pages that were checked."""

from __future__ import annotations

import importlib.util
import os
from contextlib import closing, suppress
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from features.errors import GateRefused
from features.ingest import ingest_sources
from features.workspace import Workspace, open_workspace
from serving.campaigns import store
from serving.campaigns.enrol import enrol_from_log
from serving.campaigns.plan import Plan, checked
from serving.campaigns.report import make_report
from serving.ledger import Ledger
from serving.release import Release, load_release
from training.kinds import KINDS

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]  # six models and a look-alike: three minutes on two quiet cores

# The browser, the service and what is held against every page are those of the console's other pages.
_spec = importlib.util.spec_from_file_location("console_browser", Path(__file__).parent / "test_console_browser.py")
assert _spec is not None
assert _spec.loader is not None
console = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(console)
browser = console.browser

SHOP = """
name = "Shop of all kinds"
zone = "Europe/Berlin"
currency = "EUR"
attributes = ["age"]
tiers = [0, 100, 300]
tasks = ["repeat_order", "churn", "next_order", "value", "value_365", "uplift"]

[[sources]]
kind = "simulated"
users = 1800
days = 400
seed = 1

[interest]
strong = ["cart_add", "checkout"]
weak = ["favourite", "search", "review_read"]
awareness = ["product_view", "page_view"]

[horizons]
repeat_order = 30
next_order = 60
"""
LOOKALIKE = "lookalike-best"
PICTURED = {  # name of a picture -> the page that it shows
    "audiences": "audiences?of=repeat_order&margin=20&at=15",
    "trust": "trust/repeat_order",
    "why": "why?of=repeat_order",
    "users": "users?id={user}",
    "shop": "shop",
    "lookalikes": f"lookalikes/{LOOKALIKE}",
    "effect": "effect/spring",
    "health": "health",
}
PICTURE = {"viewport": {"width": 1040, "height": 1000}, "color_scheme": "light", "reduced_motion": "reduce", "locale": "en-GB"}
COLOURS = 128


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A shop with all that the pages can show. Uplift serves against the gate's word, as an operator may decide it: else no page would show an effect."""
    from serving.publish import publish
    from training.commands import run_retrain
    from training.lookalike.expand_run import run_expand
    from training.lookalike.seed_request import SeedRequest, make_requested
    from training.tracking import Tracking

    place = open_workspace(tmp_path_factory.mktemp("kinds") / "workspace", environment={})
    place.root.mkdir()
    place.shop_file.write_text(SHOP)
    ingest_sources(place)
    with suppress(GateRefused):
        run_retrain(place)
    tracking = Tracking(place, place.shop().name)
    tracking.promote(tracking.versions("uplift")[-1], tracking.with_alias("uplift", "champion"))
    make_requested(place, SeedRequest(name="best", rule="orders_count >= 6"), datetime.now(UTC).date())
    run_expand(place, "best", {"size": 100})
    release = load_release(place.releases / publish(place))
    with closing(Ledger(place.ledger_url)) as ledger:
        costs = {"contact_cost": 0.1, "coupon_cost": 2.0, "margin": 15.0, "target": 0.2}
        told = {"name": "spring", "starts": date(2024, 12, 16), "horizon": 21, "shares": {"treatment": 0.5, "control": 0.5}, "log_name": "campaign-10"}
        spring = store.save_campaign(ledger, checked(Plan(**told, channel="e-mail", **costs)))[0]
        enrol_from_log(ledger, place.tiles(place.shop()), release, spring)
        make_report(place, ledger, spring.id)
    return place


@pytest.fixture(scope="module")
def release(place: Workspace) -> Release:
    return load_release(next(place.releases.glob("2*")))


@pytest.fixture(scope="module")
def user(release: Release) -> str:
    """Who ordered most."""
    return release.users[np.nanargmax(release.vectors[:, release.features.index("orders_count")])].decode()


@pytest.fixture(scope="module")
def address(place: Workspace):
    with console.service(place.root) as found:
        yield found


def test_every_kind_of_prediction_and_a_look_alike_in_a_browser(browser, address, release, user):
    assert {bundle.kind for bundle in release.bundles.values()} == KINDS.keys()
    pages = [path.format(user=user) for path in PICTURED.values()] + ["trust", "lookalikes", "effect"]
    pages += [path for task in release.bundles for path in (f"trust/{task}", f"why?of={task}", f"audiences?of={task}")]
    for language, view in (("en", "wide"), ("zh", "narrow")):
        assert console.check(browser, address, pages, language, view) == len(pages)


def test_the_pictures_of_the_docs(browser, address, user):
    """Each page as somebody sees it first. They go to the folder `PICTURES` of the environment, where it is given."""
    from PIL import Image

    with console.context(browser, **PICTURE) as (opened, wrong):
        page = opened.new_page()
        for name, path in PICTURED.items():
            page.goto(f"{address}/console/{path.format(user=user)}")
            taken = [page.screenshot(animations="disabled") for _ in range(2)]
            assert taken[0] == taken[1], name  # nothing moves
            picture = Image.open(BytesIO(taken[0])).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            assert picture.size == (1040, 1000)
            if folder := os.environ.get("PICTURES"):
                picture.save(Path(folder) / f"{name}.png", optimize=True)
        assert not wrong
