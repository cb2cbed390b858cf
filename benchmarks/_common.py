"""Helpers of the benchmarks: interleaved timing, description of the machine, Markdown."""

import importlib.metadata
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"


def example_name(cls: type, arguments: Mapping[str, Any]) -> str:
    """Return the name of an entry of discrete_ae.rounding.EXAMPLES, such as "Sigmoid 4, normalized"."""
    numbers = [f"{value:g}" for value in arguments.values() if type(value) in (int, float)]
    given = [name if value is True else value for name, value in arguments.items()]
    kinds = [word for word in given if isinstance(word, str)]
    return ", ".join([" ".join([cls.__name__, *numbers]), *kinds])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, followed by an empty line."""
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def publish(lines: Sequence[str], name: str, folder: Path = RESULTS) -> None:
    """Write NAME.md and print it."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(lines))
    print("\n".join(lines))


def machine(device: str, threads: int) -> str:
    """Return the name of the GPU, or of the CPU with the number of threads used."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{threads} thread{'s' if threads > 1 else ''} of {cpu_model()}"


def cpu_model() -> str:
    """Return the name and core count of the processor; its architecture if the name is unknown."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def versions(*packages: str) -> str:
    """Return the versions of Python, torch, and those packages that are installed."""
    found = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def megabytes() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def composed(*overrides: str) -> Any:
    """Return the configuration of `python train.py` with the given overrides, without callbacks and loggers."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = compose("train", list(overrides))
    # Not by overrides: a preset that changes a callback would restore it.
    OmegaConf.set_struct(config, False)
    config.callbacks = config.logger = None
    return config


def finish(device: str) -> None:
    """Wait until the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(function: Callable[[], object], device: str) -> float:
    """Return the duration of one call in seconds, including the device's work."""
    finish(device)
    start = time.perf_counter()
    function()
    finish(device)
    return time.perf_counter() - start


def interleaved(functions: Mapping[str, Callable[[], object]], device: str, rounds: int) -> dict[str, float]:
    """Return the median seconds of each function; each round calls all, so that other load affects all alike."""
    for function in functions.values():
        function()
    times = [{name: seconds(function, device) for name, function in functions.items()} for _ in range(rounds)]
    return {name: statistics.median(found[name] for found in times) for name in functions}
