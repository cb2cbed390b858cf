"""Processes that are forks of one which has imported everything: to start Python and to import takes seconds each time.

A fork of the tests' own process would not do: torch trains in no fork of one that has trained.
"""

import atexit
import contextlib
import functools
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, NoReturn

REPOSITORY = Path(__file__).parents[1]
COMMAND = "from discrete_ae.cli.main import main; main()"
# torchmetrics imports onnxruntime, which starts a thread, and a fork of a process with threads does not end.
_SERVER = """
import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

sys.modules["onnxruntime"] = MagicMock(__spec__=ModuleSpec("onnxruntime", None))
import discrete_ae.cli.main, discrete_ae.cli.train
import discrete_ae.training.callbacks, discrete_ae.training.run, lightning.pytorch.loggers  # what training imports
from tests.processes import serve

serve(int(sys.argv[1]))
"""


class Process:
    """A process that runs a program with arguments, and with environment variables beside those of this one.

    A stream that is not given is empty, or kept: `out` and `err` are its text once the process has ended.
    """

    out = err = ""

    def __init__(
        self,
        program: str,
        *arguments: object,
        cwd: Path = REPOSITORY,
        stdin: IO[Any] | None = None,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
        **variables: str,
    ) -> None:
        given = {
            "program": program,
            "argv": ["-c", *map(str, arguments)],
            "cwd": str(cwd.resolve()),
            "environment": os.environ | variables,
        }
        given_streams = (stdin, stdout, stderr)
        self._kept = [None if stream else tempfile.TemporaryFile() for stream in given_streams]  # noqa: SIM115
        self._news, tells = multiprocessing.Pipe(duplex=False)
        with tempfile.TemporaryFile() as request, tells:
            request.write(json.dumps(given).encode())
            request.seek(0)
            streams = [kept or stream for kept, stream in zip(self._kept, given_streams, strict=True)]
            socket.send_fds(_server(), [b"."], [file.fileno() for file in (request, *streams, tells)])
        self.pid = self._news.recv()

    def wait(self, timeout_s: float = 100) -> int:
        """Wait for the end and return the status, or the number of the signal that ended it, negative."""
        is_late = not self._news.poll(timeout_s)
        if is_late:
            self.send_signal(signal.SIGKILL)
        status = self._news.recv()
        self._news.close()
        _, self.out, self.err = map(_read, self._kept)
        assert not is_late, self.err
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, which has not ended."""
        os.kill(self.pid, number)


def _read(kept: IO[bytes] | None) -> str:
    if kept is None:
        return ""
    with kept:
        kept.seek(0)
        return kept.read().decode()


@functools.cache
def _server() -> socket.socket:
    """Start the process that is forked, which ends with this one, and return what it is asked through."""
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(its.fileno())],
            pass_fds=[its.fileno()],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def serve(fd: int) -> None:
    """Fork for each process that is asked for, until nobody can ask any more."""
    asked = socket.socket(fileno=fd)
    while True:
        _, fds, *_ = socket.recv_fds(asked, 1, 5)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not fds:
            os._exit(0)
        if os.fork() == 0:
            asked.close()
            request, *streams, tells = fds
            _tell(Connection(tells, readable=False), request, streams)
        for each in fds:
            os.close(each)


def _tell(news: Connection, request: int, streams: list[int]) -> NoReturn:
    """Start a process that does what is asked for, and tell its number and how it ended."""
    pid = os.fork()
    if pid == 0:
        news.close()
        _do(request, streams)
    for stream in streams:  # a pipe ends when nobody has it any more
        os.close(stream)
    news.send(pid)
    news.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _do(request: int, streams: list[int]) -> NoReturn:
    """Run the program as Python would, without taking apart at the end all that is imported: seconds in a fork."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    status = _status_of(lambda: _run(request))
    status = _status_of(lambda: (atexit._run_exitfuncs(), sys.stdout.flush())) or status
    sys.stderr.flush()
    os._exit(status)


def _run(request: int) -> None:
    with open(request) as file:
        given = json.load(file)
    os.environ.clear()
    os.environ.update(given["environment"])
    os.chdir(given["cwd"])
    sys.argv[:] = given["argv"]
    exec(given["program"], {"__name__": "__main__"})


def _status_of(function: Callable[[], object]) -> int:
    try:
        function()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
