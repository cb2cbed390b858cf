"""The page and its sounds over HTTP, to browsers on this machine alone.

The address has a part that nobody can guess, against other users of the machine. The names that requests come to and
from are checked, against pages of other sites that a browser has open: a site can make its own name mean this machine
(DNS rebinding), and can send requests here from its own pages.
"""

import json
import logging
import secrets
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from discrete_ae.compare.listening.session import Session
from discrete_ae.errors import DataError, UsageError

log = logging.getLogger("discrete_ae")

LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost")
_LONGEST_REQUEST = 2**16

_HERE = Path(__file__).parent
_PAGE = _HERE.parent / "page"
_FILES = {
    "": (_HERE / "listen.html", "text/html; charset=utf-8"),
    "listen.css": (_HERE / "listen.css", "text/css; charset=utf-8"),
    "style.css": (_PAGE / "style.css", "text/css; charset=utf-8"),
    "player.js": (_PAGE / "player.js", "text/javascript; charset=utf-8"),
    "theme.js": (_PAGE / "theme.js", "text/javascript; charset=utf-8"),
    "trial.js": (_HERE / "trial.js", "text/javascript; charset=utf-8"),
    "result.js": (_HERE / "result.js", "text/javascript; charset=utf-8"),
    "listen.js": (_HERE / "listen.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ListeningServer(ThreadingHTTPServer):
    """Serves one session until it is shut down.

    Args:
        session: what is listened to.
        port: 0 takes a free one.
        on_result: called, in a thread of its own, once the result has been sent.

    Raises:
        UsageError: the port is taken, or not allowed.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0, on_result: Callable[[], None] = lambda: None) -> None:
        self.session, self.on_result = session, on_result
        self.secret = secrets.token_urlsafe(12)
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror}; give another, or leave it out") from error

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.secret}/"

    def server_bind(self) -> None:
        """Bind without asking the name service for this machine's name, as the base class would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = LOOPBACK, self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave no traceback for a browser that went away."""
        log.debug("a request was broken off", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: ListeningServer
    timeout = 60
    server_version, sys_version = "discrete-ae", ""

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return
        session = self.server.session
        if path in _FILES:
            file, kind = _FILES[path]
            self._send(HTTPStatus.OK, file.read_bytes(), kind)
        elif path == "session":
            self._send_json(session.state())
        elif path == "result":
            if self._answer(session.result):
                self.wfile.flush()
                self.server.on_result()
        elif path.startswith("sounds/") and (sound := session.sound(path.removeprefix("sounds/"))):
            self._send(HTTPStatus.OK, sound, "audio/wav")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        path = self._path()
        length = self.headers.get("Content-Length", "")
        if path is None:
            pass
        elif path != "ratings":
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
        elif self.headers.get("Origin") != f"http://{self.headers['Host']}":
            self._refuse(HTTPStatus.FORBIDDEN, "ratings come from this page alone")
        elif self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "ratings come as JSON")
        elif not length.isascii() or not length.isdecimal() or int(length) > _LONGEST_REQUEST:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long, or of unknown length")
        else:
            self._rate(self.rfile.read(int(length)))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal for what a listener should read."""
        log.debug(format, *args)

    def _path(self) -> str | None:
        """What is asked for below the secret part; None where that is wrong, and the request is answered."""
        name, _, port = self.headers.get("Host", "").partition(":")
        if name not in _NAMES or (port and not port.isdecimal()):
            self._refuse(HTTPStatus.FORBIDDEN, f"this page is at {LOOPBACK} only")
            return None
        secret, slash, path = self.path.partition("?")[0].removeprefix("/").partition("/")
        if not slash or not secrets.compare_digest(secret.encode(), self.server.secret.encode()):
            self._refuse(HTTPStatus.NOT_FOUND, "no such page; take the address from the terminal")
            return None
        return path

    def _rate(self, body: bytes) -> None:
        try:
            sent = json.loads(body)
            arguments = (sent["trial"], list(sent["ratings"]), str(sent["comment"]), str(sent["listener"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            self._refuse(HTTPStatus.BAD_REQUEST, "not the ratings of a trial")
        else:
            self._answer(lambda: self.server.session.rate(*arguments))

    def _answer(self, asked: Callable[[], Any]) -> bool:
        """Send what is asked for, or what is wrong; whether it was the former."""
        try:
            content = asked()
        except DataError as error:
            log.error("%s", error)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except UsageError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        else:
            self._send_json(content)
            return True
        return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send_json({"error": reason}, status)

    def _send_json(self, content: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
