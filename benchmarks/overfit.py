"""Check that each model family and size can overfit one second of speech, without a quantizer and at 6 kbps.

    python benchmarks/overfit.py                             # about half an hour on 2 cores
    python benchmarks/overfit.py --models conv/tiny

A model that cannot has a bug. The result does not tell how well other audio is coded. Each run uses one CPU thread,
with as many runs in parallel as cores. Writes benchmarks/results/overfit.md.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from _common import REPOSITORY, composed, cpu_model, publish, table, versions
from hydra.utils import instantiate
from omegaconf import OmegaConf

from discrete_ae.build import build_model
from discrete_ae.data import read_audio
from discrete_ae.metrics import si_sdr_db
from discrete_ae.training.learning_rate import warmup_cosine

CLIP = REPOSITORY / "data" / "train" / "speech_lj001_0001.flac"
CLIP_START_S = 0.5
SIZES = {"tiny": 2e-3, "small": 1e-3, "base": 5e-4, "large": 3e-4}  # and peak learning rates
MODELS = [
    f"{family}/{size}" for family in ("conv", "spectral") for size in SIZES if (family, size) != ("conv", "large")
]
# 15 codebooks of 256 entries at 50 frames per second: 6 kbps.
CASES = {"no quantizer": ["quantizer=identity"], "ste at 6 kbps": ["quantizer=ste", "num_codebooks=15"]}
WARMUP_STEPS = 50
COLUMNS = ("model", "quantizer", "nominal kbps", "steps", "SI-SDR in dB")


def fit(model_name: str, case: str, steps: int) -> list[str]:
    """Train one model on the clip alone, and return its row."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = composed(f"model={model_name}", *CASES[case])
    plain: Any = OmegaConf.to_container(config.model, resolve=True)
    model = build_model(plain)
    loss = instantiate(config.loss)
    clip = torch.from_numpy(read_audio(CLIP, model.sample_rate, 1, CLIP_START_S, 1.0))[None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=SIZES[Path(model_name).name], betas=(0.9, 0.99), fused=True)
    scheduler = warmup_cosine(optimizer, steps, WARMUP_STEPS)
    for _ in range(steps):
        output = model(clip)
        loss(output.reconstruction, clip, output.losses).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    with torch.no_grad():
        quality = si_sdr_db(model.eval()(clip).reconstruction, clip).item()
    rate = "" if case == "no quantizer" else f"{model.bitrate_bps / 1000:.1f}"
    row = [f"`{model_name}`", case, rate, str(steps), f"{quality:.1f}"]
    print(" ".join(row), flush=True)
    return row


def main() -> None:
    """Fit every model in every case and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="options of conf/model")
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    jobs = [(model, case, arguments.steps) for model in reversed(arguments.models) for case in CASES]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(fit, *zip(*jobs, strict=True)))
    rates = ", ".join(f"{rate:g} ({size})" for size, rate in SIZES.items())
    lines = [
        "# One second of speech by heart",
        "",
        f"`python benchmarks/overfit.py --steps {arguments.steps}`: `data/train/{CLIP.name}`, the second from "
        f"{CLIP_START_S} s on, batches of this alone, the default loss, AdamW with a peak rate of {rates}; "
        f"one thread a run, {os.cpu_count()} runs at a time, of {cpu_model()}, {versions()}. One seed.",
        "",
        *table(COLUMNS, sorted(rows)),
    ]
    publish(lines, "overfit")


if __name__ == "__main__":
    main()
