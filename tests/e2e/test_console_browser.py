"""The console in a real browser: every page in both languages, wide and narrow, light and dark, with axe, without JavaScript, by keyboard."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from features.workspace import Workspace, open_workspace
from serving.border.keys import create_key
from serving.ledger import Ledger
from serving.release import load_release

SERVE = "import sys, encore; encore.app(['serve', '--workspace', sys.argv[1], '--port', sys.argv[2]])"
VIEWS = {
    "wide": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "narrow": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}
OTHER = {"wide": {**VIEWS["wide"], "color_scheme": "dark"}, "narrow": {**VIEWS["narrow"], "color_scheme": "light"}}
LOCALES = {"en": "en-GB", "zh": "zh-CN"}
PAGES = (
    "audiences?of={task}&margin=20",
    "trust",
    "trust/{task}",
    "why?of={task}",
    "users",
    "users?id={user}",
    "shop",
    "lookalikes",
    "health",
    "effect",
    "sign-in",
    "trust/none",
)
NOISE = "the server responded with a status of 404"  # the browser says so of the page that is not there


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium; CI has to have it, a laptop need not."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        missing = "chromium is not installed here (apt-get install chromium): the console is not looked at in a browser"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
        yield browser
        browser.close()


@contextmanager
def service(root: Path) -> Iterator[str]:
    """`encore serve` of a workspace in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENCORE_")} | {"ENCORE_SCORES_GOOD_FOR_HOURS": "1000000"}
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(root), str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{address}/health/ready", timeout=5):
                    break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def workspace(small_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("console") / "workspace"
    for folder in ("releases", "metrics"):
        if (small_workspace.root / folder).exists():
            shutil.copytree(small_workspace.root / folder, root / folder)
    return open_workspace(root, environment={})


@pytest.fixture(scope="module")
def site(workspace: Workspace) -> Iterator[str]:
    with service(workspace.root) as address:
        yield address


@pytest.fixture(scope="module")
def user(workspace: Workspace) -> str:
    release = load_release(next(workspace.releases.glob("2*")))
    scores = release.scores["repeat_order"].score
    return str(release.users[int((scores == scores).argmax())].decode())


@contextmanager
def context(browser: Browser, **settings: object) -> Iterator[tuple[BrowserContext, list[str]]]:
    """A browser's context, and what went wrong in it: errors of pages, and requests that leave the service."""
    opened, wrong = browser.new_context(**settings), []  # type: ignore[arg-type]
    opened.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") and NOISE not in message.text else None)
    opened.on("weberror", lambda error: wrong.append(str(error.error)))
    opened.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("http://127.0.0.1:") else None)
    yield opened, wrong
    opened.close()


@pytest.mark.parametrize(("language", "view"), [("en", "wide"), ("zh", "narrow")])
def test_every_page_is_clean_and_axe_finds_nothing_serious(browser, site, user, language, view):
    assert check(browser, site, [page.format(task="repeat_order", user=user) for page in PAGES], language, view) == len(PAGES)


def check(browser, site, pages, language, view):
    """Hold pages against what a page has to be; returns how many were looked at."""
    seen = 0
    with context(browser, locale=LOCALES[language], **VIEWS[view]) as (opened, wrong):
        page, axe = opened.new_page(), Axe()
        for path in pages:
            page.goto(f"{site}/console/{path}")
            assert page.evaluate("document.documentElement.lang") == {"en": "en", "zh": "zh-Hans"}[language]
            for summary in page.locator("main details > summary").all()[:3]:
                summary.click()
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
            found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
            bad = [(one["id"], one["impact"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found if one["impact"] in ("serious", "critical")]
            assert not bad, (path, bad)
            assert not wrong, (path, wrong)
            seen += 1
    return seen


@pytest.mark.parametrize(("language", "view"), [("zh", "wide"), ("en", "narrow")])
def test_no_page_is_wider_than_its_window(browser, site, user, language, view):
    with context(browser, locale=LOCALES[language], **OTHER[view]) as (opened, wrong):
        page = opened.new_page()
        for path in PAGES:
            page.goto(f"{site}/console/{path.format(task='repeat_order', user=user)}")
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert not wrong


def test_without_javascript_every_chart_has_its_numbers(browser, site):
    with context(browser, java_script_enabled=False, **VIEWS["wide"]) as (opened, wrong):
        page = opened.new_page()
        page.goto(f"{site}/console/trust/repeat_order")
        figures = page.locator("figure")
        assert figures.count() >= 3
        for place in range(figures.count()):
            figure = figures.nth(place)
            assert figure.locator(".chart svg").first.is_visible()
            assert not figure.locator("table").is_visible()
            figure.locator("summary").click()
            assert figure.locator("table").is_visible()
            assert figure.locator("tbody tr").count() >= 2
        assert not wrong


def test_a_keyboard_leads_to_the_content_and_to_the_next_page(browser, site):
    with context(browser, **VIEWS["wide"]) as (opened, _):
        page = opened.new_page()
        page.goto(f"{site}/console/trust")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.locator(".skip").bounding_box()["x"] >= 0
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('main') !== null")
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/trust/repeat_order")


def test_a_printed_page_shows_its_tables(browser, site):
    with context(browser, **VIEWS["wide"]) as (opened, _):
        page = opened.new_page()
        page.goto(f"{site}/console/shop")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("figure table").first.is_visible()
        assert not page.locator("nav").first.is_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert not page.locator("figure table").first.is_visible()


MOVED = """async ([at, skip]) => {
  const form = document.querySelector('.handle'), shown = document.querySelector('[data-said=size]'), began = performance.now();
  const said = new Promise((done) => new MutationObserver(done).observe(shown, { childList: true }));
  form.elements.at.value = at; form.elements.skip.value = skip;
  form.elements.at.dispatchEvent(new Event('input', { bubbles: true }));
  await said;
  return performance.now() - began;
}"""


def preview(site, at, skip):
    """What the API says of a cut."""
    body = json.dumps({"task": "repeat_order", "top_percent": at, "skip_percent": skip, "economics": {"margin": 20}, "holdout": {"control": 0.2}}).encode()
    asked = urllib.request.Request(f"{site}/v1/audiences:preview", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as answer:
        return json.load(answer)


def test_both_handles_say_what_the_api_says_and_keep_what_they_show(browser, site):
    with context(browser, **VIEWS["wide"]) as (opened, wrong):
        page = opened.new_page()
        page.goto(f"{site}/console/audiences?of=repeat_order&margin=20&held=20")
        for at, skip in ((1, 0), (7, 2), (42, 41), (100, 5)):
            assert page.evaluate(MOVED, [at, skip]) < 5_000  # milliseconds; bench/CONSOLE.md has what it takes
            seen = preview(site, at, skip)
            said = {name: page.locator(f"[data-said={name}]").inner_text() for name in ("size", "expected", "precision", "interval")}
            assert said == {
                "size": f"{seen['size']:,}",
                "expected": f"{seen['expected_conversions']:,.0f}",
                "precision": f"{100 * seen['precision']:.1f}%",
                "interval": f"{seen['expected_low']:,.0f} – {seen['expected_high']:,.0f}",
            }
            assert ("cannot show anything" in page.locator("#power").inner_text()) == (not seen["power"] or seen["power"]["effect"] is None)
        chosen = page.locator(".cut rect.main").count()
        page.locator("#skip").focus()
        page.keyboard.press("End")  # it stops before the other one
        expect(page.locator("output[for=skip]")).to_have_text("99%")
        assert page.locator(".cut rect.main").count() < chosen
        page.locator("#at").focus()
        page.keyboard.press("Home")  # and is pushed by it
        expect(page.locator("output[for=at]")).to_have_text("1%")
        assert page.locator("#skip").input_value() == "0"
        page.keyboard.press("ArrowRight")
        expect(page.locator("output[for=at]")).to_have_text("2%")
        page.fill("#name", "second cut")
        page.locator(".cut form[method=post] button").click()
        page.wait_for_url("**said=kept")
        assert (page.locator("#at").input_value(), page.locator("#margin").input_value()) == ("2", "20")
        with page.expect_download() as taken:
            page.get_by_label("CSV of second cut: with who is held out").click()
        assert len(taken.value.path().read_text().splitlines()) == 1 + preview(site, 2, 0)["size"]
        assert not wrong
    with urllib.request.urlopen(f"{site}/v1/audiences/second%20cut") as answer:
        assert json.load(answer)["rule"] == {"task": "repeat_order", "top_percent": 2}


def test_without_javascript_both_handles_are_a_form(browser, site):
    with context(browser, java_script_enabled=False, **VIEWS["narrow"]) as (opened, wrong):
        page = opened.new_page()
        page.goto(f"{site}/console/audiences?of=repeat_order")
        page.locator("#at").focus()
        page.keyboard.press("End")
        page.locator("#skip").focus()
        page.keyboard.press("ArrowRight")
        page.get_by_label("50%").check()
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**at=100&skip=1&held=50**")
        seen = preview(site, 100, 1)
        assert 0 < seen["eligible"] - seen["size"] == round(seen["eligible"] / 100)
        assert page.locator("[data-said=percent]").inner_text() == f"{100 * seen['size'] / seen['eligible']:.1f}%"
        assert "50% held out" in page.locator("#power").inner_text()
        assert not wrong


def test_a_person_signs_in_and_out(browser, site, workspace):
    """The last one: from its first key on, the service asks for one."""
    key = create_key(Ledger(workspace.ledger_url), "person", ["read"], days=1)
    with context(browser, **VIEWS["narrow"]) as (opened, wrong):
        page = opened.new_page()
        for _ in range(100):
            page.goto(f"{site}/console/shop")
            if "/sign-in" in page.url:
                break
            time.sleep(0.2)
        page.fill("#key", "enc_wrong")
        with page.expect_response(lambda answer: answer.request.method == "POST") as refused:
            page.keyboard.press("Enter")
        assert refused.value.status == 401
        page.wait_for_selector("[role=alert]")
        wrong.clear()  # the browser says that it was refused
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/shop")
        assert page.locator("h1").inner_text() == "Your customers"
        page.locator("footer form button").click()
        page.wait_for_url("**/console/sign-in")
        page.goto(f"{site}/console/shop")
        assert "/sign-in" in page.url
        assert not wrong
