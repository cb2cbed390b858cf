"""Describe the machine (GPU, driver, libraries, processor), and measure the peak rates of its GPU."""

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

import torch
from _common import REPOSITORY, cpu_model, seconds

from gpu_steps.results import Given

TOOLS = ("gcc", "g++", "nvcc", "ptxas", "git", "srun", "opusenc", "c2enc")


def measure(given: Given) -> None:
    """See the module."""
    card = given.device == "cuda"
    properties = torch.cuda.get_device_properties(0) if card else None
    facts = {
        "card": f"{properties.name}, compute capability {properties.major}.{properties.minor}"
        if properties
        else "none",
        "cards": torch.cuda.device_count(),
        "memory of the card in GiB": properties.total_memory / 2**30 if properties else None,
        "multiprocessors": properties.multi_processor_count if properties else None,
        "driver": output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
        "NCCL": ".".join(map(str, torch.cuda.nccl.version())) if card else None,
        "bfloat16 in hardware": torch.cuda.is_bf16_supported(including_emulation=False) if card else None,
        "processor": cpu_model(),
        "cores that this process may use": len(os.sched_getaffinity(0)),
        "cpu.max of its cgroup": text(Path("/sys/fs/cgroup/cpu.max")),
        "memory in GiB": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "shared memory in GiB": shutil.disk_usage("/dev/shm").total / 2**30 if Path("/dev/shm").is_dir() else None,
        "system": platform.platform(),
        "Python": platform.python_version(),
        "commit": output(["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]),
        "programs found": ", ".join(name for name in TOOLS if shutil.which(name)),
        "packages": ", ".join(f"{name} {version(name)}" for name in packages()),
    }
    for name, value in facts.items():
        given.add(what=name, value=value)
    rate, dtype = matrix_rate(given.device)
    given.add(what=f"matrix products in {dtype}, TFLOP/s", value=rate / 1e12)
    given.add(what="copies within memory, GB/s read and written", value=copy_rate(given) / 1e9)
    given.summarize(f"{facts['card']}; {rate / 1e12:.4g} TFLOP/s in {dtype}")


def matrix_rate(device: str) -> tuple[float, str]:
    """Return the operations per second of a large matrix product in the training precision, and that precision."""
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (512, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    torch.mm(left, right)
    found = [seconds(lambda: torch.mm(left, right), device) for _ in range(10)]
    return 2 * size**3 / statistics.median(found), str(dtype).removeprefix("torch.")


def copy_rate(given: Given) -> float:
    """Return the bytes read and written per second of a copy."""
    source = torch.zeros(2**22 if given.tiny else 2**30, dtype=torch.uint8, device=given.device)
    target = torch.empty_like(source)
    target.copy_(source)
    found = [seconds(lambda: target.copy_(source), given.device) for _ in range(10)]
    return 2 * source.nbytes / statistics.median(found)


def packages() -> list[str]:
    """Return the names of this project's dependencies, triton and pytest."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = [requirement.split("=")[0].split(">")[0].split("[")[0] for requirement in project["dependencies"]]
    return [*names, "triton", "pytest"]


def version(package: str) -> str:
    """Return the version of an installed package, or "missing"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def output(command: Sequence[str]) -> str | None:
    """Return the output of a program; None if it is missing or fails."""
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip() if done.returncode == 0 else None


def text(path: Path) -> str | None:
    """Return the content of a file; None if it is missing."""
    return path.read_text().strip() if path.is_file() else None
