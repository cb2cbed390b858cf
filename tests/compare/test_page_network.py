"""The page in a real browser: nothing leaves it, and nothing runs in it but its own programs."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compare.browsing import button, wait

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A port of this machine that waits for somebody to connect."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.3)
        yield listening


LOADS = {
    "picture": "new Image().src = '{}'",
    "fetch": "fetch('{}').catch(() => 0)",
    "sound": "new Audio('{}').load()",
    "beacon": "navigator.sendBeacon('{}', 'text')",
    "frame": "document.body.append(Object.assign(document.createElement('iframe'), {{ src: '{}' }}))",
    "style": "document.body.style.backgroundImage = 'url({})'",
}


def sent(page: Any, server: socket.socket) -> bytes:
    """What reaches the server if the page tries to load from it in all ways.

    Chromium opens a connection for a frame before it asks whether the frame is allowed, and then sends nothing.
    """
    address = "http://{}:{}/".format(*server.getsockname())
    for attack in LOADS.values():
        page.evaluate(f"() => {{ {attack.format(address)} }}")
    page.wait_for_timeout(200)
    content = b""
    with contextlib.suppress(TimeoutError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(0.3)
                content += connection.recv(1000)
    return content


def test_no_request_leaves_the_page(visit, html, complaints: list[str], server):
    site = visit(html, offline=False)
    button(site, "long", "ste").click()
    wait(site, "player.playing")
    assert complaints == []
    assert sent(site, server) == b""
    assert sum("violates" in complaint for complaint in complaints) >= len(LOADS)
    complaints.clear()


def test_a_request_would_be_noticed(visit, complaints: list[str], server):
    site = visit("<link rel=icon href='data:,'>", offline=False)
    assert b"GET / HTTP/1.1" in sent(site, server)
    assert sum(complaint.startswith("http://127.0.0.1") for complaint in complaints) >= len(LOADS)
    site.goto("about:blank")
    complaints.clear()


def test_no_program_runs_but_its_own(visit, html, complaints: list[str]):
    site = visit(html)
    site.evaluate("""() => {
        document.body.append(Object.assign(document.createElement("script"), { textContent: "window.hacked = 1" }));
        document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.hacked = 1'>");
    }""")
    wait(site, "document.images[document.images.length - 1].complete")
    site.wait_for_timeout(50)
    assert site.evaluate("window.hacked") is None
    assert len(complaints) == 2
    complaints.clear()
