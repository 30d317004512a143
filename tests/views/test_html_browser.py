"""The page in a real browser: it asks for nothing, complains about nothing, and fits a wide and a narrow screen."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from llmdeploy.plan import Plan
from llmdeploy.views.html import plan_html
from tests.support import require_tool
from tests.views import html_plans, plans

pytestmark = pytest.mark.integration

WIDE, NARROW = 1400, 380
EVERY = (*plans.ALL, html_plans.rich)
# What a browser asks for by itself goes nowhere; what a page asks for is told apart by who asks.
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
    "--v=0",
)
BROWSER_ITSELF = "not an origin"


@dataclass(frozen=True)
class Visit:
    """What one visit of a page brought: its document, what the console said, and the addresses that the page asked for."""

    document: str
    console: list[str]
    requests: list[str]

    @property
    def title(self) -> str:
        """The title after all scripts ran."""
        found = re.search("<title>(.*?)</title>", self.document, re.DOTALL)
        assert found
        return html.unescape(found[1])


@pytest.fixture
def visit(tmp_path: Path) -> Callable[..., Visit]:
    """Open a file in a browser of its own."""
    require_tool("chromium")

    def open_(page: Path, *arguments: str) -> Visit:
        profile = tmp_path / "profile"
        log = tmp_path / "net.json"
        command = ["chromium", *ARGUMENTS, f"--user-data-dir={profile}", f"--log-net-log={log}", *arguments, page.as_uri()]
        document, errors = _run(command, tmp_path)
        shutil.rmtree(profile)
        return Visit(document, [one for one in errors.splitlines() if "CONSOLE" in one], list(_requests(log)))

    return open_


def _run(command: list[str], home: Path) -> tuple[str, str]:
    """Return what a program prints on standard output and standard error. What it started ends with it."""
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(home)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            printed = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, printed[1]
    return printed


def _requests(log: Path) -> Iterator[str]:
    """Yield the addresses that a page asked for, as the browser logged them."""
    found = json.loads(log.read_text(encoding="utf-8"))
    start = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    for event in found["events"]:
        if event["type"] == start and event.get("params", {}).get("initiator", BROWSER_ITSELF) != BROWSER_ITSELF:
            yield event["params"]["url"]


def written(folder: Path, plan: Plan) -> Path:
    page = folder / "plan.html"
    page.write_text(plan_html(plan, plan_id="1a2b3c4d5e6f"), encoding="ascii")
    return page


@contextmanager
def a_server() -> Generator[tuple[str, list[str]]]:
    """Yield the address of a server, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)
def test_the_page_asks_for_nothing_and_complains_about_nothing(
    make: Callable[[], Plan], tmp_path: Path, visit: Callable[..., Visit]
) -> None:
    found = visit(written(tmp_path, make()), "--dump-dom")
    assert found.title.endswith(make().stack)
    assert found.console == []
    assert found.requests == []


def test_a_page_that_asks_and_complains_is_caught(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    page = tmp_path / "bad.html"
    with a_server() as (address, asked):
        page.write_text(f"<title>x</title><img src='{address}/x.png'><script>console.error('boom')</script>", encoding="ascii")
        found = visit(page, "--dump-dom")
    assert asked == ["/x.png"]
    assert found.requests == [f"{address}/x.png"]
    assert any("boom" in one for one in found.console)


def test_even_a_page_into_which_somebody_got_markup_asks_for_nothing(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    page = written(tmp_path, html_plans.rich())
    with a_server() as (address, asked):
        hole = f"<img src='{address}/i'><script src='{address}/s'></script><iframe src='{address}/f'></iframe>"
        hole += "<script>document.title = 'taken'</script>"
        page.write_text(page.read_text(encoding="ascii").replace("<h1>", f"{hole}<h1>", 1), encoding="ascii")
        found = visit(page, "--dump-dom")
    assert asked == []
    assert found.requests == []
    assert found.title == "Plan: support-chat"
    assert len(found.console) >= 4, "the browser tells what it refused"


MEASURE = """
<script>
const root = document.documentElement;
const boxes = [...document.querySelectorAll("svg")].filter((one) => one.getBoundingClientRect().width > 0);
const runs = (one) => one.querySelectorAll("text").length && [...one.querySelectorAll("text")].some((text) => {
  const inner = text.getBoundingClientRect(), outer = one.getBoundingClientRect();
  return inner.left < outer.left - 1 || inner.right > outer.right + 1;
});
document.title = JSON.stringify({
  width: innerWidth, page: root.scrollWidth, shown: boxes.length, over: boxes.filter(runs).length,
  wide: [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > innerWidth + 1
    && !one.closest(".scroll")).map((one) => one.tagName + "." + one.className).slice(0, 5),
});
</script>
"""


def measured(page: Path, width: int, visit: Callable[..., Visit]) -> dict[str, object]:
    """Return what a script finds out in a copy of the page without its policy, in a frame so many pixels wide."""
    text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="ascii"))
    # Headless browsers open no window narrower than 500 pixels; a frame has any width.
    inner = text.replace("</body>", f"{MEASURE}</body>")
    answer = "<script>onload = () => { document.title = frames[0].document.title; }</script>"
    frame = f'<iframe style="border:0;width:{width}px;height:3000px" srcdoc="{html.escape(inner)}"></iframe>'
    outer = page.with_name("frame.html")
    outer.write_text(f"<!DOCTYPE html><title></title><body style='margin:0'>{answer}{frame}", encoding="ascii")
    found: dict[str, object] = json.loads(visit(outer, "--dump-dom", "--window-size=1500,3000").title)
    return found


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("make", [html_plans.rich, plans.changed, plans.fresh], ids=lambda make: make.__name__)
def test_the_page_fits_the_screen(make: Callable[[], Plan], width: int, tmp_path: Path, visit: Callable[..., Visit]) -> None:
    found = measured(written(tmp_path, make()), width, visit)
    assert found["width"] == width
    assert found["page"] == width, f"the page scrolls sideways: {found['wide']}"
    assert found["over"] == 0, "text of a picture runs over its edge"


def test_each_screen_shows_its_own_form_of_the_pictures(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    page = written(tmp_path, html_plans.rich())
    assert measured(page, WIDE, visit)["shown"] == measured(page, NARROW, visit)["shown"] == 2


def test_a_page_that_is_too_wide_is_caught(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    page = written(tmp_path, plans.changed())
    page.write_text(page.read_text(encoding="ascii").replace("<h1>", "<h1 style='width:900px'>", 1), encoding="ascii")
    found = measured(page, NARROW, visit)
    assert found["page"] != NARROW
    assert "H1." in str(found["wide"])


def test_both_themes_are_drawn(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    page, pictures = written(tmp_path, html_plans.rich()), dict[str, bytes]()
    for name, arguments in {"light": [], "dark": ["--blink-settings=preferredColorScheme=0"]}.items():
        shot = tmp_path / f"{name}.png"
        visit(page, *arguments, f"--screenshot={shot}", f"--window-size={WIDE},2000")
        pictures[name] = shot.read_bytes()
        assert struct.unpack(">II", pictures[name][16:24]) == (WIDE, 2000)
        # An empty page is a few kilobytes of one colour.
        assert len(pictures[name]) > 50_000
    assert pictures["light"] != pictures["dark"]
