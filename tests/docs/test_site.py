"""The docs site: it is built, leads nowhere outside by itself, and every link in it leads somewhere; what it lists is what there is."""

from __future__ import annotations

import ast
import http.server
import logging
import os
import re
import shutil
import threading
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import encore
from features.exit_codes import EXIT_CODES, FAULT
from features.sources import SOURCES
from serving.app import ServiceSettings, create_app
from serving.campaigns import monitor
from serving.quality.rules import ADVICE
from training.tasks import TASKS
from training.uplift import LEARNERS

PROJECT = Path(encore.__file__).parent
DOCS = PROJECT / "docs"
LOADING = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "object": "data"}
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PAGES = {path.stem: path.read_text() for path in DOCS.glob("*.md")}


@dataclass
class Read(HTMLParser):
    """What a page of the site has: anchors, links that a person follows, addresses that a browser loads by itself."""

    anchors: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.anchors.update({said["id"]} if "id" in said else ())
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        if tag in LOADING and LOADING[tag] in said and said.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(said[LOADING[tag]])
        self.loads += re.findall(r"url\(([^)]*)\)", said.get("style", ""))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make site` does it: strictly, so that a warning is an error."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    levels = {name: logging.getLogger(name).level for name in ("mkdocs", "markdown")}
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as environment:
        warnings.simplefilter("ignore")  # MkDocs' own, of Python and of the theme
        environment.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(PROJECT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    return folder


@pytest.fixture(scope="module")
def read(site: Path) -> dict[Path, Read]:
    found = {}
    for path in site.rglob("*.html"):
        found[path] = Read()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


# --- the site -------------------------------------------------------------------------------------------------------


def test_every_link_leads_to_a_file_and_an_anchor_of_the_site(site: Path, read: dict[Path, Read]) -> None:
    lost = []
    for path, page in read.items():
        for link in page.links:
            told = urlsplit(link)
            if told.scheme or told.netloc or path.name == "404.html":  # which is found from anywhere, so its links begin at the root
                continue
            target = (path.parent / unquote(told.path)).resolve() if told.path else path
            target = target / "index.html" if target.is_dir() else target
            known = read[target].anchors if target in read else ()
            if not target.is_file() or (told.fragment and unquote(told.fragment) not in known):
                lost.append(f"{path.relative_to(site)} -> {link}")
    assert lost == []


def test_links_out_of_the_site_are_addresses(read: dict[Path, Read]) -> None:
    found = {link for page in read.values() for link in page.links if urlsplit(link).scheme}
    assert found
    assert [link for link in found if not re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(/[^\s]*)?", link) and not re.match(r"http://127\.0\.0\.1:", link)] == []


def test_nothing_is_loaded_from_outside(site: Path, read: dict[Path, Read]) -> None:
    outside = re.compile(r"^['\"]?(https?:)?//")
    assert [address for page in read.values() for address in page.loads if outside.match(address)] == []
    styles = "\n".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert [address for address in re.findall(r"(?:url\(|@import\s+)([^);]*)", styles) if outside.match(address)] == []
    assert [path for path, page in read.items() if "mermaid" in path.read_text(encoding="utf-8").split("<article", 1)[-1].split("</article")[0]] == []


def test_no_anchor_is_given_twice(read: dict[Path, Read]) -> None:
    assert {path.name: twice for path, page in read.items() if (twice := [anchor for anchor, times in page.anchors.items() if times > 1])} == {}


def test_a_browser_asks_nobody_else_and_finds_words(site: Path) -> None:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        missing = "chromium is not installed here (apt-get install chromium): the site is not looked at in a browser"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}/"
    asked: list[str] = []
    said: list[str] = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
            page = browser.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
            for name in ("api.html", "index.html"):
                page.goto(here + name)
            page.fill("input[name=query]", "quarantine")
            page.wait_for_selector(".md-search-result__item", timeout=20_000)
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    assert [address for address in asked if not address.startswith((here, "data:", "blob:"))] == []
    assert said == []


# --- what it lists --------------------------------------------------------------------------------------------------


def test_every_prediction_is_explained(site: Path) -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGES["predictions"], re.MULTILINE | re.DOTALL))
    assert sections.keys() >= TASKS.keys()
    for name in TASKS:
        assert f"<!-- part: prediction {name} -->" in sections[name]
        said = re.findall(r"\*\*(Method\.|Source\.|It fails)\*\*(.*?)(?=\*\*(?:Method\.|Source\.|It fails)\*\*|\Z)", sections[name], re.DOTALL)
        assert [what for what, words in said if len(words.split()) >= 4] == ["Method.", "Source.", "It fails"], name
    assert set(re.findall(r"`([TXRS]-\w+)`", sections["uplift"])) == LEARNERS.keys()
    built = (site / "predictions.html").read_text(encoding="utf-8")
    assert [name for name in TASKS if f"training/tasks/{name}.py" not in built] == []


def test_every_kind_of_source_has_an_example() -> None:
    listed = re.findall(r"^\| \[`(\w+)`\]\(#([\w-]+)\) \|", PAGES["data"], re.MULTILINE)
    assert {kind for kind, _ in listed} == SOURCES.keys()
    headings = {heading.lower().replace(" ", "-").replace("'", ""): text for heading, text in re.findall(r"^### (.*)\n((?:(?!^##).*\n)*)", PAGES["data"], re.M)}
    for kind, anchor in listed:
        text = "".join((PROJECT / name).read_text() for name in re.findall(r'--8<-- "([^"]+)"', headings[anchor])) + headings[anchor]
        assert f'kind = "{kind}"' in text


def test_every_setting_of_the_environment_is_listed() -> None:
    setting = re.compile(r"ENCORE_[A-Z_]*[A-Z]\b")
    files = [PROJECT / "encore.py", *(path for package in ("features", "training", "serving") for path in (PROJECT / package).rglob("*.py"))]
    listed = {name for line in PAGES["settings"].splitlines() if line.startswith("| `") for name in setting.findall(line.split("|")[1])}
    assert listed == {name for path in files for name in setting.findall(path.read_text())}


def test_the_operating_guide_knows_every_code_alarm_and_metric() -> None:
    page = PAGES["operating"]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == {0, FAULT, *EXIT_CODES.values()}
    (group,) = yaml.safe_load((PROJECT / "examples" / "schedule" / "alerts.yaml").read_text())["groups"]
    assert re.findall(r"^### (Encore\w+)$", page, re.MULTILINE) == [rule["alert"] for rule in group["rules"]]
    assert re.findall(r"^\| `([a-z ]+)` \|", page.split("## Alarms of quality")[1].split("\n## ")[0], re.MULTILINE) == list(ADVICE)
    calls = [
        node for node in ast.walk(ast.parse(Path(monitor.__file__).read_text())) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_alarm"
    ]
    alarms = {node.args[0].value for node in calls if isinstance(node.args[0], ast.Constant)}
    assert set(re.findall(r"^\| ([a-z ]+) \|", page.split("## Alarms of a campaign")[1].split("\n## ")[0], re.MULTILINE)) - {"alarm"} == alarms
    told = re.findall(r'status="([\w ]+)"(?:, reason="(\w+)")?', (PROJECT / "serving" / "routes" / "health.py").read_text())
    reasons = {word for pair in told for word in pair} - {"", "live"} | {"too_old", "keys_unknown", "stale", "ready"}
    assert {word for word in reasons if f"`{word}`" not in page.split("## What `/health/ready` says")[1]} == set()


def test_the_operating_guide_lists_the_metrics_that_there_are() -> None:
    told = page_metrics(PAGES["operating"].split("## What `/metrics` says")[1])
    source = "\n".join((PROJECT / "serving" / name).read_text() for name in ("metrics.py", "border/limits.py", "quality/gauges.py"))
    counted = {f"{name}_total" for name in re.findall(r'Counter\("(encore_\w+)"', source)}
    other = set(re.findall(r'(?:Histogram\(|GaugeMetricFamily\(|_family\()\s*"(encore_\w+)"', source))
    assert told == counted | other


def page_metrics(text: str) -> set[str]:
    return set(re.findall(r"`(encore_\w+)`", text))


def test_every_claim_of_the_comparison_names_a_test_and_every_statement_about_others_an_address() -> None:
    claims, others = PAGES["comparison"].split("## Beside the others")
    rows = [line for line in claims.splitlines() if line.startswith("| ") and not line.startswith("| claim")]
    assert len(rows) > 10
    assert [row for row in rows if not re.search(r"\| `tests/[\w/]+\.py::test_\w+` \|$", row)] == []
    about = [line.strip("|").split("|") for line in others.splitlines() if line.startswith("| ") and not line.startswith("| product")]
    assert {row[0].split()[0] for row in about} >= {"Google", "Adobe", "Braze", "Klaviyo", "Segment", "Dynamics", "Sensors"}
    for _, said, address, ours in about:
        assert said.strip()
        assert "](https://" in address
        assert NAMED.search(ours) or ours.strip().startswith("nothing")
    predictions = others.split("## Beside other predictions")[1].splitlines()
    undated = [line for line in predictions if line.startswith("| ") and not line.startswith("| product") and not re.search(r", 20\d\d-\d\d-\d\d \|", line)]
    assert undated == []


@pytest.mark.parametrize(("file", "name"), sorted({found for page, text in PAGES.items() if page != "faults" for found in NAMED.findall(text)}))
def test_a_test_that_a_page_names_exists_and_is_shown(site: Path, file: str, name: str) -> None:
    tree = ast.parse((PROJECT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert f'id="{name}"' in (site / file).with_suffix(".html").read_text(encoding="utf-8")


def test_every_operation_of_the_api_has_its_request(site: Path, tmp_path: Path) -> None:
    built = (site / "api.html").read_text(encoding="utf-8")
    described = create_app(ServiceSettings(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}")).openapi()["paths"]
    named = [operation["operationId"] for operations in described.values() for operation in operations.values()]
    assert len(named) == len(set(named))
    assert [name for name in named if f'id="{name}"' not in built] == []
    assert len(re.findall(r"<pre>.*?curl", built)) >= len(named)


def test_the_recipes_are_all_linked(site: Path, read: dict[Path, Read]) -> None:
    linked = {Path(link).name for link in read[site / "recipes" / "index.html"].links} | {"index.html"}
    assert {path.name for path in (site / "recipes").glob("*.html")} <= linked
