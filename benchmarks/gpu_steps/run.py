"""Train for the remaining time, killed once and resumed; save the weights, the curve and clips."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from _common import REPOSITORY, composed
from hydra.utils import instantiate

from discrete_ae import DiscreteAutoencoder, load
from discrete_ae.saving.checkpoint import KEY, STATE_PREFIX, model_state
from discrete_ae.saving.saved import model_hash
from gpu_steps.presets import RUN, TINY_RUN
from gpu_steps.results import Given

MAX_BYTES = 16e6  # of a file of results
FINISHING_S = 20.0  # reserved for the work after training
SAFETY = 0.95  # share of the time to plan for; a late run is near its end, where its learning rate is near 0
VALIDATIONS = 10
TINY_STEPS, TINY_INTERVAL = 8, 4


class Training:
    """One run of `python train.py`, in consecutive processes.

    Args:
        given: inputs of the step.
        folder: parent of the run's folder.
    """

    def __init__(self, given: Given, folder: Path) -> None:
        self.given = given
        self.folder = folder
        self.last = folder / "run" / "checkpoints" / "last.ckpt"
        self.best = folder / "run" / "checkpoints" / "best.ckpt"
        self.curve = given.out / "curve.csv"
        self.curve.unlink(missing_ok=True)
        preset = TINY_RUN if given.tiny else RUN
        self.settings = [*preset.overrides, f"data.batch_size={preset.batch_size}", *self.data]
        if given.train:
            self.settings = [*given.train, *self.data]
        self.compile = not given.tiny
        self.first_interval = 5 if given.tiny else 200

    @property
    def data(self) -> list[str]:
        """Overrides that set the recordings."""
        return [f"data.root={self.given.corpus}"] if self.given.corpus else []

    def start(self, process: int, *overrides: str) -> subprocess.Popen:
        """Start a process of the run."""
        curve = "_target_: gpu_steps.callbacks.Curve"
        command = [
            *(sys.executable, str(REPOSITORY / "train.py"), *self.settings, f"compile={str(self.compile).lower()}"),
            *(f"hydra.run.dir={self.folder}/run", "callbacks.progress=null", "optim.scheduler.warmup_steps=100"),
            f"trainer.accelerator={'gpu' if self.given.device == 'cuda' else 'cpu'}",
            f"+callbacks.curve={{{curve}, path: {self.curve}, process: {process}}}",
            *(
                ("callbacks.clips.count=1", "callbacks.entropy_model.max_seconds=2", "data.max_validation_segments=2")
                if self.given.tiny
                else ()
            ),
            *overrides,
        ]
        return subprocess.Popen(command)

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of the curve so far."""
        if not self.curve.exists():
            return []
        with self.curve.open(newline="") as file:
            return list(csv.DictReader(file))

    def until_first_checkpoint(self) -> int | None:
        """Train past the first checkpoint, then kill the process; return the checkpoint's step, None without one."""
        # So many steps that the learning rate stays constant.
        process = self.start(1, "trainer.max_steps=1000000", f"trainer.val_check_interval={self.first_interval}")
        try:
            while not self.last.exists():
                if process.poll() is not None or self.given.left_s < FINISHING_S:
                    return None
                time.sleep(0.2)
            time.sleep(0.5)
        finally:
            process.kill()
            process.wait()
        return step_of(self.last)

    def resume(self, step: int) -> list[str]:
        """Resume until the time is over, with a learning rate that falls to 0; return a list of errors."""
        interval, end = self.plan(step)
        process = self.start(
            2,
            f"ckpt_path={self.last}",
            "init_from=null",
            f"trainer.max_steps={end}",
            f"trainer.val_check_interval={interval}",
        )
        wrong = []
        first = min(end, (step // interval + 1) * interval)  # as in an uninterrupted run
        try:
            if process.wait(max(self.given.left_s - FINISHING_S, 1)):
                wrong.append(f"the continued run failed, exit status {process.returncode}")
        except subprocess.TimeoutExpired:
            end = first = None
            self.given.note("the time was over before the last step: the run was ended as by Ctrl-C")
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(FINISHING_S / 2)
        finally:
            process.kill()
            process.wait()
        found = [int(row["step"]) for row in self.rows() if row["process"] == "2"]
        if not found:
            wrong.append("the continued run came to no validation")
        elif first is not None and (found[0], found[-1]) != (first, end):
            wrong.append(f"the continued run validates from step {found[0]} to {found[-1]}, not from {first} to {end}")
        return wrong

    def plan(self, step: int) -> tuple[int, int]:
        """Return the steps between validations and the last step, as many as time allows."""
        if self.given.tiny:
            return TINY_INTERVAL, step + TINY_STEPS
        first = self.rows()[-1]
        started_s = float(first["time"]) - float(self.rows()[0]["time"])  # validation, kernels, the first steps
        validation_s = 2 * float(first["validation_s"])  # checkpoints are written after the timed part
        time_s = SAFETY * (self.given.left_s - FINISHING_S - started_s - VALIDATIONS * validation_s)
        steps = max(int(time_s * float(first["steps_per_s"])), self.first_interval)
        return max(steps // VALIDATIONS, self.first_interval // 2), step + steps


def measure(given: Given) -> None:
    """See the module."""
    with tempfile.TemporaryDirectory() as name:
        training = Training(given, Path(name))
        step = training.until_first_checkpoint()
        if step is None and training.compile:
            given.note("with compile=true the run came to no checkpoint; once more without")
            training.compile = False
            step = training.until_first_checkpoint()
        if step is None:
            raise SystemExit("the run came to no checkpoint")
        keep(given, training)
        wrong = training.resume(step)
        given.note(
            f"killed after the checkpoint of step {step}, continued from it: {'; '.join(wrong) or 'as it should'}"
        )
        model = keep(given, training)
        clips(given, training, model)
        for row in training.rows():
            metrics = {key.removeprefix("val/"): float(row[key]) for key in SHOWN if row.get(key)}
            given.add(
                process=row["process"], step=int(row["step"]), **{"steps/s": float(row["steps_per_s"])}, **metrics
            )
        last = training.rows()[-1]
        given.summarize(
            f"{last['step']} steps, SI-SDR {float(last['val/si_sdr_db']):.2f} dB, "
            + ("broken off and continued" if not wrong else "; ".join(wrong))
        )
        sys.exit(1 if wrong else 0)


SHOWN = ("val/reconstruction", "val/si_sdr_db", "val/codes/usage", "val/codes/perplexity", "val/codes/bitrate_bps")


def step_of(checkpoint: Path) -> int:
    """Return the step at which a checkpoint was written."""
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])


def keep(given: Given, training: Training) -> DiscreteAutoencoder:
    """Save the best weights without the state of the run, in half precision if the file would be too large.

    Returns the model that is loaded from them.
    """
    content = torch.load(training.best, map_location="cpu", weights_only=True)
    target = given.out / "best.ckpt"
    temporary = training.folder / "weights.ckpt"
    record, tensors = content[KEY], content["state_dict"]
    if sum(tensor.nbytes for tensor in tensors.values()) > MAX_BYTES:
        tensors = {
            name: tensor.half() if tensor.dtype == torch.float32 else tensor
            for name, tensor in tensors.items()
            if name.startswith(STATE_PREFIX)
        }
        record = {**record, "model_hash": model_hash(model_state(tensors), record["model"])}
        given.note("best.ckpt is in half precision")
    torch.save({KEY: record, "state_dict": tensors}, temporary)
    if temporary.stat().st_size > MAX_BYTES:
        raise SystemExit(f"best.ckpt has {temporary.stat().st_size / 1e6:.1f} MB; choose a smaller model in presets.py")
    target.write_bytes(temporary.read_bytes())
    return load(target)


def clips(given: Given, training: Training, model: DiscreteAutoencoder) -> None:
    """Write validation clips to one file: each as recorded, then decoded from its codes, separated by silence."""
    data = instantiate(composed(*training.settings).data)
    data.setup("fit")
    pause = np.zeros((model.channels, model.sample_rate // 2), np.float32)
    parts, names = [], []
    for name, audio in data.clips(1 if given.tiny else 6):
        with torch.no_grad():
            decoded = model.decode(model.encode(audio[None]), audio.shape[-1])[0]
        parts += [audio.numpy(), pause, decoded.clamp(-1, 1).numpy(), pause]
        names.append(name)
    soundfile.write(given.out / "clips.flac", np.concatenate(parts, axis=1).T, model.sample_rate)
    given.note(f"clips.flac, each as recorded and then decoded: {', '.join(names)}")


os.environ.setdefault("HYDRA_FULL_ERROR", "1")
