"""Output of commands in any encoding, and completion in a shell."""

import os
import subprocess
import sys

import pytest

from discrete_ae.cli import main
from tests.runs import REPOSITORY


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


def test_a_reader_that_ends_early_gets_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "train.py", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
