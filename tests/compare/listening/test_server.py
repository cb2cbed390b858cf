"""The server: to this machine alone, to its own page alone, and nothing in it that unblinds."""

import http.client
import json
import re
import threading
import time

import pytest

from discrete_ae.compare.listening.ratings import read_ratings
from discrete_ae.compare.listening.server import ListeningServer
from discrete_ae.errors import UsageError
from tests.compare.listening.reports import METHODS


@pytest.fixture
def server(begin):
    """A server that runs, and what it says when the result has been sent."""
    told = threading.Event()
    with ListeningServer(begin(), on_result=told.set) as running:
        running.told = told
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def ask(server):
    """Send a request to a path below the page's; gives status, headers and body."""

    def send(path="", method="GET", body=None, whole_path=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
            place = f"/{server.secret}/{path}" if whole_path is None else whole_path
            connection.request(method, place, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    return send


@pytest.fixture
def post(ask, server):
    """Send ratings as the page does, unless told otherwise."""

    def send(content=None, body=None, **headers):
        content = {"trial": 1, "ratings": [1, 2, 3, 4], "comment": "", "listener": ""} | (content or {})
        usual = {"Origin": f"http://127.0.0.1:{server.server_port}", "Content_Type": "application/json"}
        return ask("ratings", "POST", json.dumps(content) if body is None else body, **(usual | headers))[0]

    return send


def test_address(server, begin):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.server_port}/{server.secret}/"
    assert len(server.secret) >= 16
    with pytest.raises(UsageError, match=rf"--port {server.server_port}: Address already in use; give another"):
        ListeningServer(begin("other"), server.server_port)


def test_files(ask):
    for path, kind, words in (
        ("", "text/html", b"Blind listening"),
        ("listen.css", "text/css", b".track"),
        ("style.css", "text/css", b"--background"),
        ("player.js", "text/javascript", b"class ClipPlayer"),
        ("theme.js", "text/javascript", b"data-theme-button"),
        ("trial.js", "text/javascript", b"class TrialView"),
        ("result.js", "text/javascript", b"showResult"),
        ("listen.js", "text/javascript", b"keydown"),
        ("session", "application/json", b"trials"),
    ):
        status, headers, body = ask(path)
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert words in body
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_sounds(ask, server):
    for token in server.session.state()["trials"][0]["conditions"]:
        status, headers, body = ask(f"sounds/{token}")
        assert (status, headers["Content-Type"], body[:4]) == (200, "audio/wav", b"RIFF")
        assert headers["Cache-Control"] == "no-store"
    assert ask("sounds/none")[0] == 404
    assert ask(token)[0] == 404


def test_nothing_unblinds(ask, server):
    files = [
        ask(path)
        for path in ("", "listen.css", "style.css", "player.js", "theme.js", "trial.js", "result.js", "listen.js")
    ]
    token = server.session.state()["trials"][0]["conditions"][0]
    files += [ask("session"), ask("result"), ask(f"sounds/{token}")]
    for _, headers, body in files:
        served = str(headers) + body.decode("latin-1")
        for name in (*METHODS, *METHODS.values(), *server.session.material.clips, "low_anchor", "3.5 kHz"):
            assert not re.search(rf"\b{re.escape(name)}\b", served)


def test_other_names_are_refused(ask, post, server):
    for host in ("example.com", "127.0.0.1.example.com:80", "localhost.example.com", "[::1]", "", "10.0.0.1"):
        assert ask(Host=host)[0] == 403, host
        assert ask("session", Host=host)[0] == 403, host
        assert post(Host=host, Origin=f"http://{host}") == 403, host
    assert server.session.done == 0


def test_names_of_this_machine_are_not(ask, post, server):
    for host in ("localhost", f"localhost:{server.server_port}", "127.0.0.1:9"):  # the last through a tunnel
        assert ask(Host=host)[0] == 200
        assert post(Host=host, Origin=f"http://{host}") == 200


def test_ratings_from_other_pages_are_refused(post, server):
    port = server.server_port
    for origin in ("https://example.com", "null", f"https://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}", None):
        assert post(Origin=origin) == 403
    assert post(Content_Type="text/plain") == 415  # which a page may send elsewhere without being asked
    assert server.session.done == 0
    assert post() == 200
    assert server.session.done == 1


def test_other_paths_are_not_there(ask, server):
    for path in (
        "/",
        "/session",
        "//session",
        "/x/session",
        "/SECRET",
        "/SECRET/../../etc/passwd",
        "/SECRET//etc/passwd",
        "/SECRET/server.py",
        "/SECRET/..%2fserver.py",
        "/SECRET/sounds/../listen.js",
    ):
        status, _, body = ask(whole_path=path.replace("SECRET", server.secret))
        assert status == 404, path
        assert b"no such page" in body


def test_damaged_requests(ask, post, server):
    assert post(body="{") == 400
    assert post(body="[" * 50_000) == 400
    assert post(body='{"trial": 1}') == 400
    assert post({"ratings": 7}) == 400
    assert post({"ratings": [1, 2, 3]}) == 409
    assert post({"trial": [1]}) == 409
    assert post(body="x" * 70_000) == 413
    assert post(Content_Length="-1") == 413
    assert ask("session", "POST", "{}")[0] == 404
    assert ask("session", "DELETE")[0] == 501
    assert server.session.done == 0


def test_ratings_and_result(ask, post, server, tmp_path):
    assert ask("result")[0] == 409
    assert post({"comment": "a\nb", "listener": "Ann"}) == 200
    assert post({"ratings": [9, 9, 9, 9]}) == 200  # again: the first stays
    assert json.loads(ask("session")[2])["done"] == [1]
    assert not server.told.is_set()
    assert post({"trial": 2}) == 200
    rows = read_ratings(tmp_path / "ratings.csv")
    assert [row.rating for row in rows] == [1, 2, 3, 4] * 2
    assert {row.listener for row in rows} == {"Ann"}
    assert rows[0].comment == "a b"
    status, _, body = ask("result")
    assert status == 200
    assert "straight-through" in body.decode()
    assert server.told.wait(5)


def test_a_full_disk_loses_nothing(post, server, tmp_path, monkeypatch):
    from discrete_ae.compare.listening import session
    from discrete_ae.errors import DataError

    def full(path, rows):
        raise DataError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(session, "add_ratings", full)
    assert post() == 500
    assert server.session.done == 0
    monkeypatch.undo()
    assert post() == 200
    assert len(read_ratings(tmp_path / "ratings.csv")) == 4


def test_a_silent_caller_holds_up_nobody(ask, server):
    quiet = http.client.HTTPConnection("127.0.0.1", server.server_port)
    quiet.connect()
    begun = time.monotonic()
    assert ask("session")[0] == 200
    assert time.monotonic() - begun < server.RequestHandlerClass.timeout
    quiet.close()
