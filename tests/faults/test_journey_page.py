"""The configuration page of the custom activity in a real browser, in a frame of a Journey Builder that speaks by the real Postmonger."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

POSTMONGER = Path(__file__).parents[1] / "data" / "postmonger" / "postmonger.js"
PAGE = "/v1/journeys/sfmc/index.html"
# Journey Builder's canvas: frames the page, gives it the activity on `ready`, keeps what it says.
CANVAS = """<!doctype html><iframe id="page" src="{page}"></iframe><script src="/postmonger.js"></script><script>
const heard = [];
const session = new Postmonger.Session({{connect: document.getElementById("page")}});
for (const event of ["ready", "updateActivity", "setActivityDirtyState", "requestInspectorClose"])
  session.on(event, (value) => {{
    heard.push([event, value]);
    if (event === "ready") session.trigger("initActivity", {activity});
  }});
</script>"""


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("a browser is missing (apt-get install chromium)")
        pytest.skip("chromium is not installed here: whether Journey Builder can show the activity's page is not tested")
    return found


@pytest.fixture(scope="module")
def live(start_service, tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("page"), environment={"ENCORE_SFMC_JWT_KEY": "k" * 40}) as live:
        yield live


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that nobody but this browser believes."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=canvas"]
    subprocess.run([*command, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    return folder


@contextmanager
def canvas(certificate, page):
    """An https server that shows a page, and the real Postmonger beside it; gives its port."""
    files = {"/": ("text/html", page.encode()), "/postmonger.js": ("text/javascript", POSTMONGER.read_bytes())}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            kind, body = files.get(self.path, ("text/plain", b""))
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)  # in the thread of its own
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class Chromium:
    """A browser spoken to by the DevTools protocol over two pipes, each frame in a session of its own.

    Salesforce's names lead to the canvas's port here; to the browser they are at 443, as the policy of the page wants it.
    """

    def __init__(self, program, folder, port):
        # High numbers: the browser's ends are put on 3 and 4, and may not overwrite one another.
        (from_us, to_browser), (from_browser, to_us) = ([fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in os.pipe()] for _ in range(2))
        options = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--ignore-certificate-errors", f"--user-data-dir={folder}"),
            f"--host-resolver-rules=MAP *.exacttarget.com 127.0.0.1:{port}, MAP *.evil.test 127.0.0.1:{port}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]
        launch = f"import os, sys; os.dup2({from_us}, 3); os.dup2({to_us}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        command = [sys.executable, "-c", launch, program, *options, "about:blank"]
        self.process = subprocess.Popen(command, pass_fds=(from_us, to_us), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(from_us)
        os.close(to_us)
        self._write, self._read, self._number, self._left = to_browser, from_browser, 0, b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._write)
        os.close(self._read)

    def send(self, method, session=None, **given):
        self._number += 1
        message = {"id": self._number, "method": method, "params": given, **({"sessionId": session} if session else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._left:
                self._left += os.read(self._read, 65_536)
            text, _, self._left = self._left.partition(b"\0")
            if (answer := json.loads(text)).get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def attached(self, part):
        """A session with the frame or page whose address has this in it."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for target in self.send("Target.getTargets", filter=[{}])["targetInfos"]:
                if part in target["url"] and target["type"] in ("page", "iframe"):
                    return self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
            time.sleep(0.1)
        raise AssertionError(f"nothing shows {part}")

    def run(self, session, script):
        told = self.send("Runtime.evaluate", session, expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def until(self, session, script):
        end = time.monotonic() + 30
        while not (found := self.run(session, script)):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.1)
        return found


def activity_of(live):
    return live.get("/v1/journeys/sfmc/config.json", {"host": "encore.example.com"}).json


@pytest.mark.parametrize("branches", ["audience", "prediction"])
def test_a_marketer_sets_the_activity_up(browser, live, certificate, tmp_path, branches):
    given = activity_of(live)
    page = CANVAS.format(page=f"http://127.0.0.1:{live.port}{PAGE}", activity=json.dumps(given))
    with canvas(certificate, page) as port, Chromium(browser, tmp_path, port) as chromium:
        chromium.send("Target.createTarget", url="https://jbinteractions.s7.exacttarget.com/")
        outside, inside = chromium.attached("exacttarget"), chromium.attached(PAGE)
        chromium.until(inside, "document.getElementById('done')?.disabled === false")
        chromium.run(inside, "document.getElementById('done').click()")
        assert chromium.run(outside, "heard.filter(([event]) => event === 'updateActivity').length") == 0, "it has no name yet"
        chromium.run(inside, f"document.querySelector('[value={branches}]').click(); document.getElementById('audience').value = ' at risk & late '")
        chromium.run(inside, "document.getElementById('done').click()")
        saved = chromium.until(outside, "(heard.find(([event]) => event === 'updateActivity') || [])[1]")
        chromium.run(inside, "document.getElementById('cancel').click()")
        chromium.until(outside, "heard.some(([event]) => event === 'requestInspectorClose')")
    assert saved["arguments"]["execute"]["inArguments"] == [{"audience": "at risk & late", "branches": branches, "user_id": "{{Contact.Key}}"}]
    assert saved["metaData"]["isConfigured"] is True
    for name, call in saved["configurationArguments"].items():
        assert call["url"] == f"https://encore.example.com/v1/journeys/sfmc/{name}?audience=at+risk+%26+late&branches={branches}"
    ways = {"audience": ["in", "out", "holdout", "fallback"], "prediction": ["low", "medium", "high", "fallback"]}[branches]
    assert [outcome["arguments"]["branchResult"] for outcome in saved["outcomes"]] == ways
    assert {name: saved[name] for name in ("workflowApiVersion", "type", "schema")} == {name: given[name] for name in ("workflowApiVersion", "type", "schema")}


def test_an_activity_that_is_opened_again_shows_what_was_chosen(browser, live, certificate, tmp_path):
    given = activity_of(live)
    given["arguments"]["execute"]["inArguments"] = [{"audience": "churn", "branches": "prediction"}, {"user_id": "{{Event.Entry.Id}}"}]
    given["outcomes"] = [{"key": "kept", "next": "WAIT-1", "arguments": {"branchResult": "high"}, "metaData": {"label": "Mine"}}]
    page = CANVAS.format(page=f"http://127.0.0.1:{live.port}{PAGE}", activity=json.dumps(given))
    with canvas(certificate, page) as port, Chromium(browser, tmp_path, port) as chromium:
        chromium.send("Target.createTarget", url="https://mc.s7.exacttarget.com/")
        outside, inside = chromium.attached("exacttarget"), chromium.attached(PAGE)
        chromium.until(inside, "document.getElementById('done')?.disabled === false")
        shown = chromium.run(inside, "[...new FormData(document.getElementById('activity'))]")
        chromium.run(outside, "session.trigger('clickedNext')")
        saved = chromium.until(outside, "(heard.find(([event]) => event === 'updateActivity') || [])[1]")
    assert dict(shown) == {"audience": "churn", "branches": "prediction", "user_id": "{{Event.Entry.Id}}"}
    assert next(one for one in saved["outcomes"] if one["arguments"]["branchResult"] == "high") == given["outcomes"][0], "what hangs on it stays"


def test_nobody_else_may_frame_the_page(browser, live, certificate, tmp_path):
    page = CANVAS.format(page=f"http://127.0.0.1:{live.port}{PAGE}", activity=json.dumps(activity_of(live)))
    with canvas(certificate, page) as port, Chromium(browser, tmp_path, port) as chromium:
        chromium.send("Target.createTarget", url="https://www.evil.test/")
        outside = chromium.attached("evil.test")
        chromium.until(outside, "document.readyState === 'complete'")
        time.sleep(2)
        assert chromium.run(outside, "heard") == []
