"""Seconds of audio a second that the processes which load it give, with as many as the machine has cores for."""

import json
import os
import subprocess
import sys
import time
from itertools import islice

from _common import REPOSITORY, composed
from hydra.utils import instantiate

from gpu_steps.results import Given

BATCH = 64


def measure(given: Given) -> None:
    """The recordings of the training run, in crops of a second."""
    cores = len(os.sched_getaffinity(0))
    best = 0.0
    counts = {1} if given.tiny else {cores, max(cores - 1, 1), min(cores, 8), 1}
    for workers in sorted(counts, reverse=True):
        rate = loaded(given, workers, batches=5 if given.tiny else 30 * min(workers, 8))
        best = max(best, rate)
        given.add(**{"processes": workers, "crops of 1 s a second": rate, "per process": rate / workers})
        given.summarize(f"{best:,.0f} s of audio a second at most, {cores} cores")
        if given.left_s < 0:
            break
    if not given.tiny:
        by_itself(given)


def loaded(given: Given, workers: int, batches: int) -> float:
    """Crops a second of so many processes, once each of them has given some."""
    config = composed(f"data.batch_size={BATCH}", *(["data.root=" + str(given.corpus)] if given.corpus else []))
    data = instantiate(config.data, num_workers=workers)
    data.setup("fit")
    loader = iter(data.train_dataloader())
    for _ in islice(loader, 4 * workers):
        pass
    begin, count = time.perf_counter(), 0
    for _ in islice(loader, batches):
        count += 1
        if given.left_s < 0:
            break
    return BATCH * count / (time.perf_counter() - begin)


def by_itself(given: Given) -> None:
    """benchmarks/loading.py, on recordings that it makes."""
    script = str(REPOSITORY / "benchmarks" / "loading.py")
    usage = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False).stdout
    if "--json" not in usage:
        return
    options = ["--json", *(["--short"] if "--short" in usage else [])]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=True)
    given.add(what="benchmarks/loading.py", found=json.loads(done.stdout.splitlines()[-1]))
