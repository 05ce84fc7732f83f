"""The page, in a real browser: it shows a real fleet live, hurts nobody, and can be read by everybody."""

import itertools
import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import redis

from pythia_metrics.dashboard import page
from pythia_metrics.health import LOOP_SECONDS
from pythia_metrics.monitor import MetricsMonitor
from tests.metrics.fleets import ERROR, HOSTILE, fleet, watched
from tests.servers.chromium import Browser
from tests.servers.redis import RedisServer
from tests.servers.server import free_port
from tests.supervisor.running import kill, run
from tests.waiting import wait_until

WORKER = """
import anyio, os
from pathlib import Path

from pythia import Worker
from pythia.brokers.redis import RedisStreamsConsumer
from pythia.config import WorkerConfig


class Orders(Worker):
    source = RedisStreamsConsumer(stream="orders", consumer_group="order-processors", url="URL")
    config = WorkerConfig(drain_timeout=3, max_concurrent_tasks=5, retry={"attempts": 1})

    async def startup(self):
        with open(Path(__file__).parent / "events", "a") as file:
            file.write('{"what": "startup", "pid": %d}\\n' % os.getpid())

    async def process(self, message):
        await anyio.sleep(0.02)
        if message.body["id"] == 3:
            raise ValueError("a dead letter")
"""

READY = "document.querySelectorAll('#processes tbody tr').length > 0"


@pytest.fixture(scope="module")
def monitor() -> Iterator[MetricsMonitor]:
    """A monitor that has seen ten minutes of a fleet in which much is wrong."""
    made = watched()
    yield made
    made.close()


def url(monitor: MetricsMonitor) -> str:
    """Return where the page is."""
    assert monitor.address is not None
    return f"http://127.0.0.1:{monitor.address[1]}/"


@pytest.mark.slow
def test_it_shows_a_real_fleet_live(browser: Browser, redis_server: RedisServer, tmp_path: Path) -> None:
    """From its start over its work and the death of a process to its end, without being loaded anew."""
    port = free_port()
    arguments = ("--listen", str(port), "--min", "2", "--max", "4", "--policy", "drain")
    with run(tmp_path, *arguments, text=WORKER.replace("URL", redis_server.url)) as running:
        running.wait_for_text("metrics and health at")
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait_for("/all [23] ready/.test(document.body.innerText)", "two processes are ready")
        with redis.Redis.from_url(redis_server.url) as client:
            for number in range(400):
                client.xadd("orders", {"body": json.dumps({"id": number})})
        browser.wait_for(
            "/redis · group order-processors/.test(document.body.innerText)", "the source is named"
        )
        browser.wait_for(f"{figure('Dead letters')} === '1'", "a dead letter is counted")
        browser.wait_for(f"/^4\\d\\d in all|come in/.test({note('Done')})", "what was done is counted")
        browser.wait_for("/drain keeps/.test(document.body.innerText)", "the policy is named")
        browser.wait_for("document.querySelectorAll('#decisions details').length > 0", "it has decided")
        assert browser.complaints() == []
        assert {address.split("?")[0] for address in browser.asked_for()} <= {
            f"http://127.0.0.1:{port}/",
            f"http://127.0.0.1:{port}/api/state",
        } | {address for address in browser.asked_for() if address.startswith("data:")}
        kill(running.pids("startup")[0], signal.SIGKILL)
        browser.wait_for(f"/^1 restart/.test({note('Processes')})", "its death is shown")
        browser.wait_for("/all [234] ready/.test(document.body.innerText)", "it is replaced")
        browser.screenshot(tmp_path / "fleet.png")
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        browser.wait_for("/Nobody answers since/.test(document.body.innerText)", "its end is shown")
        assert browser.text("#status") == "gone"
        assert "redis · group order-processors" in browser.text()


def figure(name: str) -> str:
    """Return an expression for the value of a key figure."""
    return f"document.querySelector('[data-key=\"{name}\"] .value').textContent"


def note(name: str) -> str:
    """Return an expression for what stands below the value of a key figure."""
    return f"document.querySelector('[data-key=\"{name}\"] .note').textContent"


def test_a_scale_ends_above_every_value(browser: Browser, monitor: MetricsMonitor) -> None:
    """At 99 of 100 too, where a chart of nothing but NaN was drawn."""
    browser.open(url(monitor))
    browser.wait_for(READY, "it is shown")
    values = [0.0099, 0.995, 1, 9.9, 99, 100, 999.9]
    tops = browser.evaluate(f"{values}.map(nice)")
    assert all(value < top <= 2 * value for value, top in zip(values, tops, strict=True))


def test_what_strangers_write_is_text(browser: Browser, monitor: MetricsMonitor) -> None:
    """A key that is a script, and an error that quotes it, are read and not run."""
    browser.open(url(monitor))
    browser.wait_for(READY, "it shows")
    said = browser.text("#attention")
    assert HOSTILE.split("'")[0] in said and ERROR in said and "for 5 min 12 s" in said
    assert browser.evaluate("document.scripts.length") == 1
    assert browser.evaluate("document.querySelectorAll('main img, main script, main iframe').length") == 0
    assert browser.evaluate("window.hacked") is None
    assert browser.complaints() == []


def test_the_browser_is_told_to_run_nothing_else(browser: Browser, monitor: MetricsMonitor) -> None:
    """Were something of a stranger's taken for HTML one day, it still could neither run nor send anything."""
    browser.open(url(monitor))
    browser.wait_for(READY, "it shows")
    browser.evaluate(f"document.querySelector('main').insertAdjacentHTML('beforeend', {HOSTILE!r})")
    browser.evaluate("void fetch('http://127.0.0.2:1/').catch(() => { window.refused = true })")
    browser.wait_for("window.refused", "another address is not asked")
    assert browser.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in browser.complaints())


def test_it_needs_nothing_of_the_internet() -> None:
    """Neither a font, a style nor a script of anybody else's."""
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^'\"\s]*", page().body))
    assert addresses <= {"//www.w3.org/2000/svg", "http://www.w3.org/2000/svg"}
    assert len(page().body) < 60_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844), (320, 568)])
def test_it_fits_and_can_be_read(
    browser: Browser,
    monitor: MetricsMonitor,
    scheme: Literal["light", "dark"],
    width: int,
    height: int,
    tmp_path: Path,
) -> None:
    """On a laptop and a phone nothing is cut off or scrolled sideways, and no text is paler than 4.5 to 1."""
    browser.open(url(monitor), width=width, height=height, scheme=scheme, mobile=width < 600)
    browser.wait_for(READY, "it shows")
    browser.evaluate("window.scrollTo(0, 0)")
    browser.screenshot(tmp_path / "page.png")
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.evaluate(CUT_OFF) == []
    assert browser.evaluate(PALE) == []
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(243, 244, 248)" if scheme == "light" else "rgb(14, 17, 22)"
    )


CUT_OFF = """
[...document.querySelectorAll('main *')].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width && !one.closest('thead') && (box.left < -1 || box.right > innerWidth + 1);
}).map((one) => one.outerHTML.slice(0, 200))
"""

# The formula is that of the Web Content Accessibility Guidelines 2.2, 1.4.3.
PALE = """
(() => {
  const parts = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const rgb = parts(getComputedStyle(node).backgroundColor);
      if (rgb.length === 3 || rgb[3] === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), pale = [];
  while (walker.nextNode()) {
    const text = walker.currentNode, node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest('script, style, noscript')) continue;
    const style = getComputedStyle(node);
    const colour = parts(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(colour), light(behind(node))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) pale.push([text.data, style.color, (a + .05) / (b + .05)]);
  }
  return pale;
})()
"""


def test_it_can_be_used_without_eyes_and_mouse(browser: Browser, monitor: MetricsMonitor) -> None:
    """Landmarks and headings have names, charts say their figures, and the keyboard opens a decision that stays open."""
    browser.open(url(monitor))
    browser.wait_for(READY, "it shows")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    roles = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node
    ]
    assert {role for role, _ in roles} >= {"main", "banner", "contentinfo", "navigation", "region", "table"}
    assert all(name for role, name in roles if role in ("region", "navigation", "image", "heading", "link"))
    assert any(role == "image" and re.match(r"in [\d.]+ /s, out [\d.]+ /s", name) for role, name in roles)
    assert browser.evaluate("document.documentElement.lang") == "en"
    tab(browser)
    assert browser.evaluate("document.activeElement.textContent") == "Skip to the figures"
    for _ in itertools.takewhile(lambda _: not at_a_decision(browser), range(40)):
        tab(browser)
    press(browser, "Enter", "\r")
    browser.wait_for("document.activeElement.parentElement.open", "it is open")
    assert "lag threshold" in browser.text("#decisions details[open]")
    before = browser.evaluate("document.querySelector('#clock').textContent")
    browser.wait_for(f"document.querySelector('#clock').textContent !== {before!r}", "it was drawn anew")
    assert at_a_decision(browser) and browser.evaluate("document.activeElement.parentElement.open")


def at_a_decision(browser: Browser) -> bool:
    """Tell whether the focus is on a decision."""
    return bool(browser.evaluate("Boolean(document.activeElement.closest('#decisions'))"))


def tab(browser: Browser) -> None:
    """Press the tabulator."""
    press(browser, "Tab", "")


def press(browser: Browser, key: str, text: str) -> None:
    """Press a key."""
    code = {"Tab": 9, "Enter": 13}[key]
    said = {"key": key, "code": key, "windowsVirtualKeyCode": code}
    browser.send("Input.dispatchKeyEvent", {"type": "keyDown", **said, **({"text": text} if text else {})})
    browser.send("Input.dispatchKeyEvent", {"type": "keyUp", **said})


def test_it_says_so_when_there_is_nothing_to_show(browser: Browser) -> None:
    """Before the first report, without a policy, without a queue; a blank page would look like a broken one."""
    monitor = MetricsMonitor()
    monitor.open("127.0.0.1", 0)
    browser.open(url(monitor))
    browser.wait_for("/Nothing is known yet/.test(document.body.innerText)", "it says that it knows nothing")
    shown = fleet(time.time(), policy=None, ready=0, of=0)
    monitor.show({**shown, "snapshot": type(shown["snapshot"])(**EMPTY)})
    browser.wait_for("/no process runs/.test(document.body.innerText)", "it says that there is no process")
    said, complaints = browser.text(), browser.complaints()
    monitor.close()
    for text in (
        "Nothing is stuck",
        "Nobody has said yet how much is left",
        "The number of processes is fixed",
    ):
        assert text in said
    assert complaints == []


EMPTY = {
    "now": 0.0,
    "wall": 0.0,
    "worker": "w",
    "window_s": 15.0,
    "seq": 1,
    "replicas": 0,
    "ready": 0,
    "desired": 0,
    "min": 0,
    "max": 0,
}


def test_it_says_so_when_the_supervisor_hangs(browser: Browser) -> None:
    """The server has a thread of its own and answers all the same; what it shows is old."""
    monitor = watched()
    monitor._shown -= LOOP_SECONDS + 5
    browser.open(url(monitor))
    browser.wait_for("/The supervisor has said nothing for/.test(document.body.innerText)", "it says so")
    monitor.show(fleet(time.time()))
    browser.wait_for("document.querySelector('#banner').hidden", "it is well again")
    monitor.close()


def test_those_who_look_on_keep_no_probe_out(browser: Browser, monitor: MetricsMonitor) -> None:
    """A page asks anew each second and holds no connection meanwhile."""
    from tests.metrics.test_server import living

    browser.open(url(monitor))
    browser.wait_for(READY, "it shows")
    assert monitor.address is not None
    port = monitor.address[1]
    wait_until(lambda: not living(port), "no connection is open")
