"""Compare our training step with the same step in DAC's and EnCodec's own code, if their packages are installed."""

import argparse
import gc

import torch
from peers import MissingPeerError
from training_speed import PAIRS
from training_speed import measure as measured

from gpu_steps.results import Given


def measure(given: Given) -> None:
    """Measure like benchmarks/training_speed.py: the same loss, optimizer and batch for both."""
    batch, length_s = (1, 0.1) if given.tiny else (16, 1.0)
    settings = argparse.Namespace(
        device=given.device,
        threads=torch.get_num_threads(),
        batch=batch,
        seconds=length_s,
        warmup=1 if given.tiny else 3,
        steps=1 if given.tiny else 10,
        bf16=not given.tiny,
        compile=False,
    )
    speeds: dict[str, float] = {}
    given.summarize("neither is installed")
    for pair in PAIRS.values():
        for name, build in reversed(pair.items()):  # theirs first: without it ours has no counterpart
            if given.left_s < 0:
                given.note(f"no time was left for {name}")
                break
            try:
                found = measured(build(), settings)
            except MissingPeerError as error:
                given.note(f"{name} is left out: {error}")
                break
            except Exception as error:  # foreign code may raise anything
                given.note(f"{name}: {type(error).__name__}: {str(error)[:300]}")
                break
            speeds[name] = batch * length_s / found["step_s"]
            row = {
                "step ms": 1000 * found["step_s"],
                "audio s/s": speeds[name],
                "peak GiB": found["peak_bytes"] / 2**30,
            }
            given.add(codec=name, batch=f"{batch} x {length_s:g} s", **row)
            gc.collect()
            if given.device == "cuda":
                torch.cuda.empty_cache()
    ratios = [f"{ours} {speeds[ours] / speeds[theirs]:.2f} times" for ours, theirs in PAIRS.values() if ours in speeds]
    if ratios:
        given.summarize(f"{', '.join(ratios)} as fast as its authors' code")
