"""The API's pages draw themselves under their content security policy, from the service alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_what_a_page_loads_is_here(live, page):
    loaded = re.findall(r'(?:src|href)="([^"]*)"', live.get(page).body.decode())
    assert loaded
    assert {address: live.get(address).status for address in loaded} == dict.fromkeys(loaded, 200)


@pytest.mark.long
@pytest.mark.parametrize(("page", "drawn"), [("/docs", "opblock-summary-path"), ("/redoc", "operation-type")])
def test_a_browser_draws_the_page_and_asks_nobody_else(live, page, drawn, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        if os.environ.get("CI") == "true":
            pytest.fail("a browser is missing (apt-get install chromium)")
        pytest.skip("chromium is not installed here: whether the pages draw themselves is not tested")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={tmp_path}",
    ]
    seen = subprocess.run(
        [*command, "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", f"http://127.0.0.1:{live.port}{page}"],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert drawn in seen.stdout.decode()
    # ReDoc would fetch a logo from its maker, and may not.
    assert set(re.findall(r'directive: "(\S+)', seen.stderr.decode())) <= {"img-src"}
