"""Output of commands in any encoding, and completion in a shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from discrete_ae.cli import main
from tests.processes import COMMAND, Process


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"3 ? 4 ?"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0"}, b"3 ? 4 ?"),
        ({"PYTHONIOENCODING": "latin-1"}, b"3 \xb7 4 ?"),
        ({"PYTHONIOENCODING": "utf-8"}, b"3 \xc2\xb7 4 \xe9"),
    ],
)
def test_characters_that_the_output_lacks_are_replaced(settings: dict[str, str], expected: bytes) -> None:
    # \udce9 is how Python has the byte E9 of a file's name that is not UTF-8.
    program = "import discrete_ae.cli; print('3 \\xb7 4 \\udce9', end='')"
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    done = subprocess.run([sys.executable, "-c", program], env=plain | settings, capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (expected, b"")


def test_names_are_in_utf_8_where_the_locale_is_ascii() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    done = subprocess.run(
        # The flag counts for more than any variable.
        [sys.executable, "-X", "utf8=0", "-m", "discrete_ae.cli.main", "é"],
        env=plain | {"LC_ALL": "C"},
        capture_output=True,
        check=False,
    )
    assert done.stderr.startswith(b"error: \\xe9: no such command"), done.stderr  # one character, which ASCII lacks


@pytest.mark.parametrize(
    ("typed", "expected"), [("discrete-ae enc", "encode"), ("discrete-ae encode --loud", "--loudness-lufs")]
)
def test_a_shell_completes_commands_and_options(monkeypatch, capsys, typed, expected):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_DISCRETE_AE_COMPLETE": "complete_bash"}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert not ended.value.code
    assert capsys.readouterr().out.split() == [expected]


TRAIN = "from discrete_ae.cli.train import main; main()"
UNBUFFERED = "import sys; sys.stdout.reconfigure(write_through=True); "


@pytest.mark.parametrize("program", [TRAIN, UNBUFFERED + TRAIN, COMMAND], ids=["train", "unbuffered", "discrete-ae"])
def test_a_reader_that_ends_early_gets_no_traceback(program: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        process = Process(program, "--help", stdout=stdout)
    assert (process.wait(), process.err) == (1, "")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is of Linux")
@pytest.mark.parametrize(
    ("program", "arguments"), [(TRAIN, ["--help"]), (TRAIN, ["--cfg", "job"]), (COMMAND, ["info"])]
)
def test_output_that_cannot_be_written_is_an_error(program: str, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as stdout:
        process = Process(program, *arguments, stdout=stdout)
    assert process.wait() == 1
    (line,) = process.err.splitlines()
    assert line.startswith("error: standard output: No space left on device; ")
