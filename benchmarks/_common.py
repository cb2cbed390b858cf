"""Helpers of the benchmarks: interleaved timing, description of the machine, Markdown."""

import importlib.metadata
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import discrete_ae

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
    """Write NAME.md, with the release and the commit that were measured, and print it."""
    folder.mkdir(exist_ok=True)
    text = "\n".join([*lines, f"Measured at discrete-ae {discrete_ae.__version__}, commit {commit()}.", ""])
    (folder / f"{name}.md").write_text(text)
    print(text)


def insert(page: Path, mark: str, lines: Sequence[str]) -> None:
    """Replace what a page has between the comments `mark` and `end of mark`.

    Raises:
        ValueError: the page lacks them.
    """
    first, last = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, begins, rest = page.read_text().partition(first)
    _, ends, after = rest.partition(last)
    if not begins or not ends:
        raise ValueError(f"{page}: expected the comments {first} and {last}")
    page.write_text("\n".join([before + first, *lines, last + after]))


def commit() -> str:
    """Return the commit of this checkout, and whether the code differs from it."""
    git = ["git", "-C", str(REPOSITORY)]
    head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True)
    code = ["discrete_ae", "conf", "benchmarks/*.py", ":!discrete_ae/pretrained"]
    changed = subprocess.run([*git, "status", "--porcelain", "--", *code], capture_output=True, text=True, check=True)
    return head.stdout.strip() + (" with changes" if changed.stdout else "")


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
