"""How long the console's pages take with the release of `service_release.py`: python bench/console.py WORKSPACE

Each page is asked for over a real connection, first once (files are opened, distributions made), then again and again; printed are the first time and the
median and the longest of the others, in milliseconds.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import subprocess
import sys
import time
from pathlib import Path

TIMES, PORT = 15, 8791
SERVE = "import sys, encore; encore.app(['serve', '--workspace', sys.argv[1], '--port', sys.argv[2]])"
PAGES = (
    "trust",
    "trust/shipped",
    "why?of=shipped",
    "why?of=deep",
    "users?id=user-0500000",
    "users?id=nobody",
    "shop",
    "lookalikes",
    "health",
    "sign-in",
    "audiences",
)


def asked(path: str) -> float:
    """Milliseconds until a page is there."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request("GET", f"/console/{path}", headers={"Accept-Language": "zh"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status >= 500:
        raise SystemExit(f"/console/{path} answered {answer.status}")
    return 1e3 * (time.perf_counter() - began)


def wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit("the service did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    told = parser.parse_args()
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(told.workspace), str(PORT)])
    try:
        wait_until_ready(process)
        print("| page | first | median | longest |\n|---|---|---|---|")  # noqa: T201
        for path in PAGES:
            first, times = asked(path), [asked(path) for _ in range(TIMES)]
            print(f"| {path} | {first:.0f} | {statistics.median(times):.1f} | {max(times):.1f} |")  # noqa: T201
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
