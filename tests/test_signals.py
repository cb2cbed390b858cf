"""Ctrl-C and SIGTERM end a command with a line and the status that shells give, whenever they come."""

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from discrete_ae.cli.main import main
from discrete_ae.signals import signalled
from discrete_ae.training.ending import kill_left

ROOT = Path(__file__).parents[1]
ENDS = pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")]
)
# In a __del__, which swallows what a handler raises.
SIGNAL = "import signal\nclass A:\n    def __del__(self): signal.raise_signal(signal.{})\nA()\nprint('went on')\n"


@ENDS
@pytest.mark.parametrize("command", [["train.py"], ["-m", "discrete_ae.cli.main", "train"]])
def test_signal_while_modules_are_imported(
    command: list[str], number: signal.Signals, status: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "hydra.py").write_text(SIGNAL.format(number.name))
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"{said}\n")


@ENDS
def test_signal_while_a_command_works(
    number: signal.Signals, status: int, said: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discrete_ae.build.load", lambda *_: signal.raise_signal(number))
    with pytest.raises(SystemExit) as ended:
        main(["encode", str(ROOT / "data"), "-o", "codes", "-c", "none.ckpt"])
    assert (ended.value.code, capsys.readouterr().err) == (status, f"{said}\n")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@ENDS
def test_signal_of_which_cleaning_up_makes_another_error(number: signal.Signals, status: int, said: str) -> None:
    def work() -> None:
        try:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(status)
        finally:
            raise RuntimeError(said)

    with pytest.raises(RuntimeError) as failed:
        work()
    assert signalled(failed.value) == status
    assert signalled(RuntimeError(said)) is None
    assert signalled(SystemExit(1)) is None


def test_a_loading_process_that_outlives_sigterm_does_not_outlive_its_run() -> None:
    context = multiprocessing.get_context("fork")
    begun, never = context.Event(), context.Event()

    def load() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        begun.set()
        never.wait()

    process = context.Process(target=load, daemon=True)
    process.start()
    begun.wait()
    kill_left()
    process.join()
    assert process.exitcode == -signal.SIGKILL
