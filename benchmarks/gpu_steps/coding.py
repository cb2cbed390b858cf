"""Measure encoding and decoding of files as in the commands: speed, agreement with the CPU, repeatability."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from _common import finish

from discrete_ae import DiscreteAutoencoder
from discrete_ae.cli.info import model_of
from discrete_ae.codec import decode_files, encode_files
from discrete_ae.codes import CodeFile
from discrete_ae.inference import runner_of
from gpu_steps.presets import SMALLEST
from gpu_steps.results import Given

MODELS = {
    "spectral/small": ("model=spectral/small",),
    "spectral/base": ("model=spectral/base",),
    "dac_like": ("experiment=dac_like",),
}
RATE = 16000
BATCH_SECONDS = 120.0  # default of the commands


def measure(given: Given) -> None:
    """Measure models with random weights on recordings of noise at the model's sample rate."""
    count, seconds = (2, 1.0) if given.tiny else (20, 60.0)
    models = {"tiny": SMALLEST} if given.tiny else MODELS
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number:02}.wav" for number in range(count)]
        for path in paths:
            soundfile.write(path, random.uniform(-0.5, 0.5, round(seconds * RATE)), RATE, subtype="PCM_16")
        short = Path(folder) / "short.wav"
        soundfile.write(short, random.uniform(-0.5, 0.5, round(min(seconds, 10) * RATE)), RATE, subtype="PCM_16")
        for name, overrides in models.items():
            if given.left_s < 0:
                given.note(f"no time was left for {name}")
                continue
            torch.manual_seed(0)
            model = model_of(overrides).eval()
            model.codes_hash = "0" * 64
            row = figures(model, paths, short, count * seconds, given.device)
            given.add(model=name, **row)
            given.summarize(
                f"{name}: encodes {row['encode x real time']:,.0f} and decodes {row['decode x real time']:,.0f} times "
                f"real time, {row['codes unlike the CPU']:.2%} of the codes unlike the CPU's"
            )


def figures(
    model: DiscreteAutoencoder, paths: Sequence[Path], short: Path, audio_s: float, device: str
) -> dict[str, object]:
    """Return the figures of a model."""
    (on_cpu,) = encoded(model, [short])
    model.to(device)
    (found,) = encoded(model, [short])  # warms up, too
    decoded(model, [found])
    finish(device)
    begin = time.perf_counter()
    files = encoded(model, paths)
    encode_s = time.perf_counter() - begin
    decoded(model, files[:1])
    begin = time.perf_counter()
    decoded(model, files)
    decode_s = time.perf_counter() - begin
    once, twice = (encoded(model, paths[:2], deterministic=True) for _ in range(2))
    audio = [decoded(model, codes, deterministic=True) for codes in (once, twice)]
    return {
        "encode x real time": audio_s / encode_s,
        "decode x real time": audio_s / decode_s,
        "codes unlike the CPU": float((found.codes != on_cpu.codes).mean()),
        "deterministic codes twice": same([file.codes for file in once], [file.codes for file in twice]),
        "deterministic audio twice": same(*audio),
    }


def encoded(model: DiscreteAutoencoder, paths: Sequence[Path], deterministic: bool = False) -> list[CodeFile]:
    """Encode recordings, none of which may fail."""
    runner = runner_of(model, None, BATCH_SECONDS, deterministic)
    files = []
    for result in encode_files(model, paths, runner=runner):
        if result.code_file is None:
            raise RuntimeError(f"{result.path}: {result.error}")
        files.append(result.code_file)
    return files


def decoded(model: DiscreteAutoencoder, files: Sequence[CodeFile], deterministic: bool = False) -> list[np.ndarray]:
    """Decode files of codes to audio."""
    runner = runner_of(model, None, BATCH_SECONDS, deterministic)
    return [np.concatenate(list(found.blocks), axis=1) for found in decode_files(model, files, runner=runner)]


def same(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> str:
    """Return "equal" or "DIFFERENT"."""
    return "equal" if all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)) else "DIFFERENT"
