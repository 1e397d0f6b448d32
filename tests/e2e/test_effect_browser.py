"""The page of campaigns in a real browser: reports of a real log, in both languages, wide and narrow, light and dark, with axe."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from features.workspace import Workspace, open_workspace
from serving.campaigns import store
from serving.campaigns.enrol import enrol_from_log
from serving.campaigns.plan import Plan, checked
from serving.campaigns.report import make_monitor, make_report
from serving.ledger import Ledger

# The browser, the service and what is held against every page are those of the console's other pages.
_spec = importlib.util.spec_from_file_location("console_browser", Path(__file__).parent / "test_console_browser.py")
assert _spec is not None
assert _spec.loader is not None
console = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(console)
browser = console.browser

PAGES = ("effect", "effect/spring", "effect/running", "effect/planned", "effect/everybody")
HALVES = {"treatment": 0.5, "control": 0.5}


@pytest.fixture(scope="module")
def site(small_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory):
    """A copy of the small shop with campaigns: reported with factors, running with an alarm, not entered yet, without control."""
    root = tmp_path_factory.mktemp("effect") / "workspace"
    shutil.copytree(small_workspace.releases, root / "releases")
    with closing(Ledger(open_workspace(root, environment={}).ledger_url)) as ledger:

        def start(name: str, begins: date, **more) -> store.Campaign:
            given = {"name": name, "starts": begins, "horizon": 21, "shares": HALVES, "log_name": "campaign-10", "channel": "e-mail", **more}
            return store.save_campaign(ledger, checked(Plan(**given)))[0]

        spring = start("spring", date(2024, 12, 16), contact_cost=0.1, coupon_cost=2.0, margin=15.0, target=0.2)
        enrol_from_log(ledger, small_workspace.tiles(small_workspace.shop()), None, spring)
        entered = store.members(ledger, spring)
        make_report(small_workspace, ledger, spring.id)
        everybody = start("everybody", date(2024, 12, 16), shares={"treatment": 1.0})
        store.add_members(ledger, everybody, [one for one in entered if one.group == "treatment"])
        make_report(small_workspace, ledger, everybody.id)
        running = start("running", date(2025, 1, 20), log_name="nothing")
        store.add_members(ledger, running, [replace(one, entered_on=date(2025, 1, 20), ends_on=date(2025, 2, 10)) for one in entered])
        _, seen = make_monitor(small_workspace, ledger, running.id)
        assert [one["what"] for one in seen["alarms"]] == ["hardly anybody is reached"]
        start("planned", date(2025, 2, 1))
    with console.service(root) as address:
        yield address


@pytest.mark.parametrize(("language", "view"), [("en", "wide"), ("zh", "narrow")])
def test_every_campaign_is_clean_and_axe_finds_nothing_serious(browser, site, language, view):
    assert console.check(browser, site, PAGES, language, view) == len(PAGES)


@pytest.mark.parametrize(("language", "view"), [("zh", "wide"), ("en", "narrow")])
def test_no_campaign_is_wider_than_its_window(browser, site, language, view):
    with console.context(browser, locale=console.LOCALES[language], **console.OTHER[view]) as (opened, wrong):
        page = opened.new_page()
        for path in PAGES:
            page.goto(f"{site}/console/{path}")
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert not wrong


def test_from_the_list_a_keyboard_leads_to_the_effect_and_its_numbers_need_no_script(browser, site):
    with console.context(browser, java_script_enabled=False, locale="en-GB", **console.VIEWS["wide"]) as (opened, wrong):
        page = opened.new_page()
        page.goto(f"{site}/console/effect")
        page.get_by_role("link", name="spring").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/effect/spring")
        assert page.locator("figure").count() >= 2
        for figure in page.locator("figure").all():
            figure.locator("summary").focus()
            page.keyboard.press("Enter")
            assert figure.locator("table").is_visible()
        assert not wrong


def test_while_windows_are_open_the_page_says_when_they_close(browser, site):
    with console.context(browser, locale="en-GB", **console.VIEWS["wide"]) as (opened, _):
        page = opened.new_page()
        page.goto(f"{site}/console/effect/running")
        assert page.get_by_text("The effect can be told from 10 Feb 2025").is_visible()
        assert page.get_by_text("Hardly anybody is reached.").is_visible()
        assert page.get_by_text("Conversions added").count() == 0
