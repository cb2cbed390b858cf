"""benchmarks/gpu.py on a CPU, from end to end; what a step that fails or does not end leaves."""

import functools
import importlib
import json
import os
import re
import select
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch.autograd import DeviceType

import discrete_ae
from tests.models import save_checkpoint
from tests.processes import Process

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
STEPS = ["environment", "training", "peers", "loading", "operations", "coding", "ddp", "run"]
"""All but the tests that want a GPU, and `compiled`, which is `training` where nothing is compiled."""


# Steps in one process: each of its own would import all libraries again, which takes longer than what a step does here.
IN_ONE_PROCESS = f"""
import os, sys
sys.argv[0] = "gpu.py"
sys.path.append({str(SCRIPT.parent)!r})
import gpu, torch
torch._dynamo.config.disable = True  # as TORCH_COMPILE_DISABLE
main = gpu.main

def in_process(command, log, limit_s, environment):
    os.environ.update(environment)
    given, sys.argv = sys.argv, command[1:]
    try:
        main()
    except SystemExit as ended:
        return (f"failed, exit status {{ended.code}}" if ended.code else "done"), []
    finally:
        sys.argv = given
    return "done", []

gpu.in_process = in_process
main()
"""


@pytest.mark.slow
def test_every_step_runs_from_end_to_end(tmp_path: Path) -> None:
    chosen = [f"--only={step}" for step in STEPS]
    process = Process(IN_ONE_PROCESS, "--out", tmp_path, "--device", "cpu", "--minutes", 1, *chosen)
    assert process.wait(300) == 0, f"{process.out}{process.err}"
    steps = json.loads((tmp_path / "gpu.json").read_text())["steps"]
    assert list(steps) == STEPS
    assert {step["status"] for step in steps.values()} == {"done"}
    assert all(step["summary"] for step in steps.values())
    assert all(step["rows"] for name, step in steps.items() if name != "peers")  # which are not installed
    text = (tmp_path / "gpu.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == STEPS
    assert steps["ddp"]["rows"][0]["weights"] == "equal"
    assert "continued from it: as it should" in text

    files = list(tmp_path.iterdir())
    assert {file.name for file in files} == {"gpu.md", "gpu.json", "gpu.log", "best.ckpt", "curve.csv", "clips.flac"}
    assert all(file.stat().st_size < 16e6 for file in files)
    model = discrete_ae.load(tmp_path / "best.ckpt")
    codes = model.encode(torch.zeros(1, 1, 1600))
    assert codes.shape == (1, 2, 5)  # two codebooks, hops of 320 samples
    clips, sample_rate = soundfile.read(tmp_path / "clips.flac")
    assert sample_rate == 16000
    assert np.abs(clips).max() > 0
    process, step = np.loadtxt(tmp_path / "curve.csv", delimiter=",", skiprows=1, usecols=(0, 1), dtype=int).T
    assert list(step[:2]) == [0, 5]
    assert set(process) == {1, 2}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("gpu")


def test_what_a_step_found_outlives_it_and_the_next_one_runs(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_process(command: list[str], *_: object) -> tuple[str, list[str]]:
        step = command[command.index("--step") + 1]
        gpu.Results(tmp_path / "out").add(step, "rows", {"found": 1})
        return ("failed, exit status 1", ["ValueError: what went wrong"]) if step == "coding" else ("done", [])

    monkeypatch.setattr(gpu, "in_process", in_process)
    for only in (["--only", "coding", "--only", "ddp"], ["--only", "ddp"]):
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out"), "--device", "cpu", *only])
        with pytest.raises(SystemExit) as ended:
            gpu.main()
        assert ended.value.code == ("coding" in only)
        # A step that is made again replaces what there was of it, and nothing else.
        steps = json.loads((tmp_path / "out" / "gpu.json").read_text())["steps"]
        assert [step["status"] for step in steps.values()] == ["failed, exit status 1", "done"]
        assert [step["rows"] for step in steps.values()] == [[{"found": 1}]] * 2
        assert steps["coding"]["last_lines"] == ["ValueError: what went wrong"]


def test_a_step_that_does_not_end_is_stopped_with_all_that_it_started(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.touch()
    # The shell's child would hold the pipe open for as long as it lives.
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    monkeypatch.setattr(gpu.subprocess, "Popen", functools.partial(subprocess.Popen, pass_fds=(writing,)))
    status, last = gpu.in_process(["sh", "-c", "echo begun; sleep 1000 & wait"], log, 2.0, dict(os.environ))
    os.close(writing)
    assert (status, last) == ("stopped after 2 s", ["begun"])
    assert select.select([reading], [], [], 60.0)[0]  # the pipe ends as soon as nothing else holds it open
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert gpu.in_process(["true"], log, 60.0, dict(os.environ)) == ("done", [])
    failing = ["sh", "-c", "echo wrong; exit 3"]
    assert gpu.in_process(failing, log, 60.0, dict(os.environ)) == ("failed, exit status 3", ["wrong"])


def test_the_check_of_the_makefile_names_steps(gpu: ModuleType) -> None:
    done = subprocess.run(["make", "--dry-run", "gpu-check"], cwd=ROOT, capture_output=True, text=True, check=True)
    chosen = re.findall(r"--only (\S+)", done.stdout)
    assert chosen
    assert set(chosen) <= set(gpu.STEPS)


@pytest.mark.usefixtures("gpu")
def test_kernels_launches_and_busy_time_of_a_profile() -> None:
    meter = importlib.import_module("gpu_steps.meter")

    def event(name: str, kind: DeviceType, microseconds: float = 0.0, note: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, device_type=kind, self_device_time_total=microseconds, is_user_annotation=note
        )

    cpu, cuda = DeviceType.CPU, DeviceType.CUDA
    events = [
        # An operation's time is that of its kernels once more, as is that of a stretch with a name.
        event("aten::mm", cpu, 300.0),
        event("ProfilerStep", cuda, 900.0, note=True),
        *[event("cudaLaunchKernel", cpu)] * 3,
        event("cuLaunchKernelEx", cpu),
        event("cudaGraphLaunch", cpu),
        *[event("sgemm", cuda, 100.0)] * 6,
        event("Memcpy DtoH (Device -> Pageable)", cuda, 10.0),
        event("Memset (Device)", cuda, 10.0),
    ]
    found = meter.Profiled(SimpleNamespace(events=lambda: events))
    steps = meter.PROFILED
    assert (found.kernels, found.launches, found.graph_launches) == (6 / steps, 4 / steps, 1 / steps)
    assert found.copies_to_host == 1 / steps
    assert found.busy_s == pytest.approx(620e-6 / steps)


@pytest.mark.usefixtures("gpu")
def test_settings_given_to_the_training_run_replace_its_model(tmp_path: Path) -> None:
    step = importlib.import_module("gpu_steps.run")
    settings = ("experiment=speech_16k", "data.batch_size=2")
    given = SimpleNamespace(out=tmp_path, tiny=True, train=settings, corpus=tmp_path)
    assert step.Training(given, tmp_path).settings == [*settings, f"data.root={tmp_path}"]


@pytest.mark.usefixtures("gpu")
def test_large_weights_come_back_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, checkpoint = importlib.import_module("gpu_steps.run"), save_checkpoint(tmp_path / "whole.ckpt")
    model = discrete_ae.load(checkpoint)
    notes: list[str] = []
    given = SimpleNamespace(out=tmp_path, note=notes.append)
    training = SimpleNamespace(best=checkpoint, folder=tmp_path)
    for limit, in_half in ((16e6, False), (0.75 * sum(x.nbytes for x in model.state_dict().values()), True)):
        notes.clear()
        monkeypatch.setattr(step, "MAX_BYTES", limit)
        found = step.keep(given, training)
        for name, tensor in model.state_dict().items():
            wanted = tensor.half().float() if in_half and tensor.is_floating_point() else tensor
            assert torch.equal(found.state_dict()[name], wanted)
        assert len(notes) == in_half
        assert (found.model_hash == model.model_hash) is (not in_half)
