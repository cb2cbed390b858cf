"""Train some steps with trainer=ddp, over NCCL on a GPU or gloo on a CPU."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from _common import REPOSITORY

from gpu_steps.presets import SMALLEST
from gpu_steps.results import Given

QUANTIZERS = ("ste", "vq", "rvq")  # rounding; codebooks; random quantizer dropout of stages
START_S = 10.0  # minimum duration of a training


def measure(given: Given) -> None:
    """Train with one process, and with two if there are two GPUs; on a CPU with two."""
    counts = [2] if given.device == "cpu" else [1, 2][: torch.cuda.device_count()]
    quantizers = QUANTIZERS[: 1 if given.tiny else None]
    status = 0
    for processes in counts:
        for quantizer in quantizers:
            if given.left_s < START_S:
                given.note(f"no time was left for {quantizer} with {processes} processes")
                continue
            status |= train(given, processes, quantizer)
    sys.exit(status)


def train(given: Given, processes: int, quantizer: str) -> int:
    """Train, add a row, and return 1 if the training failed or the ranks' weights differ, else 0."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranks.json"
        command = [
            *(sys.executable, str(REPOSITORY / "train.py"), "trainer=ddp", f"quantizer={quantizer}"),
            *(f"trainer.devices={processes}", f"trainer.accelerator={'gpu' if given.device == 'cuda' else 'cpu'}"),
            *("trainer.max_steps=6", "trainer.val_check_interval=6", "trainer.log_every_n_steps=2"),
            *("data.max_validation_segments=4", "data.batch_size=4", "callbacks.clips.count=0", "data.num_workers=0"),
            *("callbacks.entropy_model.max_seconds=2", "callbacks.progress=null", f"hydra.run.dir={folder}/run"),
            f"+callbacks.ranks={{_target_: gpu_steps.callbacks.SameOnEveryRank, path: {path}}}",
            *(SMALLEST if given.tiny else ()),
        ]
        code = subprocess.run(command, check=False).returncode
        if code:
            given.note(f"{quantizer} with {processes} processes: exit status {code}")
            given.summarize(f"{quantizer} with {processes} processes failed")
            return 1
        found = json.loads(path.read_text())
    given.add(quantizer=quantizer, **found)
    given.summarize(f"{found['backend']}, {processes} processes: weights of the ranks {found['weights']}")
    return int(found["weights"] != "equal")
