"""Messages of libmpg123 are suppressed; other lines are printed in their order."""

import os
import subprocess
import sys

import numpy as np
import soundfile

from discrete_ae.data import read_audio
from discrete_ae.data.mpg123 import without_complaints

STARTS = np.random.default_rng(0).uniform(2, 8, 50)


def test_seeking_in_an_mp3_prints_nothing(tmp_path, capfd):
    path = tmp_path / "x.mp3"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 160000), 16000)
    with soundfile.SoundFile(path) as file:
        for start_s in STARTS:
            file.seek(round(start_s * 16000))
            file.read(4000)
    assert "libmpg123" in capfd.readouterr().err  # or there is no need for any of this
    for start_s in STARTS:
        read_audio(path, 16000, start_s=start_s, duration_s=0.25)
    assert capfd.readouterr() == ("", "")


def test_other_lines_follow_in_their_order(capfd):
    with without_complaints():
        os.write(2, b"first\n[src/libmpg123/layer3.c:1774] error: part2_3_length\n")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'of a child\\n')"], check=True)
        os.write(2, b"last, without an end")
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "first\nof a child\nlast, without an end"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_a_command_without_stderr_reads_an_mp3(tmp_path):
    path = tmp_path / "x.mp3"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 160000), 16000)
    program = (
        "import discrete_ae.cli, sys; from discrete_ae.data import read_audio\n"
        "print(read_audio(sys.argv[1], 16000, start_s=5, duration_s=0.25).shape[-1])\n"
        "print('to stderr', file=sys.stderr)"
    )
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", program, str(path)]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "4000\n")
