"""The tutorials run from end to end, with tiny models and a few steps."""

import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from discrete_ae.cli.train import main
from tests.runs import REPOSITORY, SMALL

FOLDER = REPOSITORY / "docs/tutorials"


@pytest.fixture
def tutorial(monkeypatch, tmp_path, capsys):
    """Run a tutorial's training runs in this process, where torch is imported already; return what it prints."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        assert command[:2] == [sys.executable, "train.py"]
        with pytest.raises(SystemExit) as ended:
            main(command[2:])
        return subprocess.CompletedProcess(command, ended.value.code or 0)

    def tutorial(name: str, *options: str) -> str:
        settings = [word for setting in SMALL for word in ("--set", setting)]
        argv = [name, *options, "--steps", "2", "--out", str(tmp_path), *settings]
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "run", run)
            patch.setattr(signal, "signal", lambda *_: None)  # this process keeps its handlers
            patch.setattr(sys, "argv", argv)
            patch.setattr(sys, "path", [*sys.path])
            patch.chdir(REPOSITORY)
            runpy.run_path(str(FOLDER / name))
        return capsys.readouterr().out

    return tutorial


@pytest.mark.slow
def test_a_quantizer_of_ones_own(tutorial, tmp_path):
    printed = tutorial("own_quantizer.py")
    # With µ = 15 an entry at c in [-1, 1] is sign(c) (16^|c| - 1) / 15, and entries are 2/255 apart in c.
    near_0, near_1 = 2 * (16 ** (1 / 255) - 1) / 15, (16 - 16 ** (1 - 2 / 255)) / 15
    assert f"step near 0: {near_0:.4f}, near 1: {near_1:.4f}" in printed
    assert "codes (1, 2, 50) below 256, 0.8 kbps, audio (1, 1, 16000)" in printed
    assert (tmp_path / "comparison/index.html").is_file()


@pytest.mark.slow
def test_two_quantizers_compared(tutorial, tmp_path, recordings):
    printed = tutorial("compare_quantizers.py", str(recordings))
    assert printed.count(" of 256") == 2 * 2 * 2  # quantizers, seeds, codebooks
    assert "the page: " in printed
    decoded = list(tmp_path.glob("*.wav"))
    assert len(decoded) == 4
    first = min(Path(recordings).glob("*.wav"))
    assert {soundfile.info(path).frames for path in decoded} == {soundfile.info(first).frames}
