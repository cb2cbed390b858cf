"""Every coverage-guided harness (fuzz_*.py), for a short while; FUZZ_SEED takes other inputs."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HARNESSES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("fuzz_*.py"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed (Linux only)")
@pytest.mark.parametrize("harness", HARNESSES)
def test_no_input_is_met_with_anything_but_a_line(tmp_path, harness):
    options = ["-runs=15000", "-max_total_time=4", f"-seed={os.environ.get('FUZZ_SEED', '0')}"]
    options += ["-rss_limit_mb=0"]  # what it reads is the peak of this process too; memory is tested in test_fuzz.py
    done = subprocess.run(
        [sys.executable, str(ROOT / harness), *options, f"-artifact_prefix={tmp_path}/"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done " in done.stderr


def test_harnesses_are_found():
    assert len(HARNESSES) >= 2
