"""How fast a release leaves, and in how much memory.

    python bench/exports.py DIR [--users 2_000_000]

DIR gets a workspace with a planted release of so many users (bench/service_release.py), unless it has one. Each export runs in a process
of its own, to a receiver on loopback that takes everything; its time and the most memory it had are told, the release's mapped pages
included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

CHILD = """
import json, os, resource, sys, time
from pathlib import Path
from serving.destinations.commands import run
from serving.ledger import Ledger
from features.workspace import open_workspace
place = open_workspace(Path(sys.argv[1]), {})
began = time.perf_counter()
facts = run(place, Ledger(place.ledger_url), sys.argv[2], {"tasks": (sys.argv[3],), "everybody": True}, yes=True)
anonymous = sum(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
print(json.dumps({"sent": facts["sent"], "seconds": time.perf_counter() - began, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "own": anonymous}))
"""
RECEIVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
    def log_message(self, *arguments): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
SHOP = 'name = "Bench"\nzone = "UTC"\ncurrency = "EUR"\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--users", type=lambda text: int(text.replace("_", "")), default=2_000_000)
    parser.add_argument("--task", default="shipped")
    parser.add_argument("--only", nargs="*", default=["braze", "segment-lines", "csv", "parquet"])
    told = parser.parse_args()
    (told.workspace / "releases").mkdir(parents=True, exist_ok=True)
    (told.workspace / "encore.toml").write_text(SHOP)
    if not (told.workspace / "releases" / "current.json").exists():
        from service_release import make

        make(told.workspace / "releases", told.users)
    receiver = subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{receiver.stdout.readline().strip() if receiver.stdout else 0}/users/track"
        environment = {**os.environ, "ENCORE_ALLOWED_HOSTS": "127.0.0.1", "ENCORE_EXPORT_BRAZE_URL": url, "ENCORE_EXPORT_BRAZE_KEY": "key"}
        sys.stdout.write("| export | users | seconds | users a second | peak MB | of that its own, at the end |\n|---|---|---|---|---|---|\n")
        for name in told.only:
            child = subprocess.run([sys.executable, "-c", CHILD, told.workspace, name, told.task], env=environment, capture_output=True, text=True, check=True)
            found = json.loads(child.stdout.splitlines()[-1])
            rate, peak, own = found["sent"] / found["seconds"], found["peak"] / 1024, found["own"] / 1024
            sys.stdout.write(f"| {name} | {found['sent']:,} | {found['seconds']:.1f} | {rate:,.0f} | {peak:,.0f} | {own:,.0f} |\n")
            sys.stdout.flush()
    finally:
        receiver.kill()
        receiver.wait()


if __name__ == "__main__":
    main()
