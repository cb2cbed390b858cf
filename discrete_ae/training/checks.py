"""What the configuration of a run must hold, said before anything is made of it."""

import logging
import re
from pathlib import Path
from typing import Any

import torch

from discrete_ae.errors import UsageError
from discrete_ae.training.compiled import require_compiler

MATMUL_PRECISIONS = ("highest", "high", "medium")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
PRECISION_ALIASES = ("32", "bf16", "16")  # Lightning's; as numbers too
CPU_INFO = Path("/proc/cpuinfo")

log = logging.getLogger(__name__)


def check_run(config: Any) -> None:
    """Look at the root and at the trainer of a composed configuration.

    Raises:
        UsageError: for values that do not fit.
    """
    if config.ckpt_path and config.init_from:
        raise UsageError("ckpt_path goes on with a run, init_from starts a new one: give one of them")
    if config.trainer.accelerator in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise UsageError("trainer: PyTorch finds no GPU here; use trainer=auto or trainer=cpu")
    if not (isinstance(config.seed, int) and 0 <= config.seed < 2**32):
        raise UsageError(f"seed: expected a whole number from 0 to {2**32 - 1}, got {config.seed!r}")
    # Not Lightning's times either: each process has its own clock, so processes would not validate at the same step.
    if type(interval := config.trainer.val_check_interval) is not int or interval < 1:
        raise UsageError(f"trainer.val_check_interval: expected a number of steps, at least 1, got {interval!r}")
    _check_precision(config)
    if config.float32_matmul_precision not in MATMUL_PRECISIONS:
        raise UsageError(
            f"float32_matmul_precision: expected one of {', '.join(MATMUL_PRECISIONS)}, got "
            f"{config.float32_matmul_precision!r}"
        )
    if not isinstance(config.compile, bool):
        raise UsageError(f"compile: expected true or false, got {config.compile!r}")
    if config.compile and not on_gpu(config):
        require_compiler("CXX", "g++", "c++", "clang++")
    elif config.compile:
        require_compiler("CC", "gcc", "cc", "clang")


def check_scaled_loss(config: Any) -> None:
    """Look at the optimizer of a run whose precision scales the loss.

    Raises:
        UsageError: for a fused optimizer.
    """
    if _scales_loss(config) and config.optim.optimizer.get("fused"):
        raise UsageError(
            "trainer.precision=16-mixed scales the loss, and a fused optimizer undoes that only after the gradient is "
            "clipped; use trainer.precision=bf16-mixed, or optim.optimizer.fused=false"
        )


def check_adversarial_run(config: Any) -> None:
    """Look for what Lightning does for one optimizer and AdversarialModule does not do for two.

    Raises:
        UsageError: for accumulated gradients, and for a precision that scales the loss.
    """
    if (count := config.trainer.get("accumulate_grad_batches", 1)) != 1:
        raise UsageError(
            f"trainer.accumulate_grad_batches: expected 1 with an adversarial loss, got {count}; make data.batch_size "
            "larger instead"
        )
    if _scales_loss(config):
        raise UsageError(
            "trainer.precision: expected 32-true or bf16-mixed with an adversarial loss, got "
            f"{config.trainer.precision}"
        )


def on_gpu(config: Any) -> bool:
    """Whether the run will use an NVIDIA GPU."""
    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def uses_cuda_graphs(config: Any) -> bool:
    """Whether compile=true may give a GPU its work as CUDA graphs.

    One GPU alone: how the gradients that a graph leaves in its own memory go with those that DDP sums is untried. And
    no accumulated gradients: a graph overwrites those of the batch before.
    """
    trainer = config.trainer
    is_single = trainer.devices in (1, "1") and trainer.get("num_nodes", 1) == 1
    return on_gpu(config) and is_single and trainer.get("accumulate_grad_batches", 1) == 1


def resolved_precision(config: Any) -> str:
    """The trainer's precision, "auto" resolved: bf16 where a GPU will be used that has it."""
    if config.trainer.precision != "auto":
        return config.trainer.precision
    return "bf16-mixed" if on_gpu(config) and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def _check_precision(config: Any) -> None:
    precision = config.trainer.precision
    if str(precision) not in PRECISIONS + PRECISION_ALIASES:
        raise UsageError(
            f"trainer.precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}; weights and quantizer are "
            "in float32 always"
        )
    on_cpu = config.trainer.accelerator == "cpu" or not torch.accelerator.is_available()
    if on_cpu and str(precision) in ("bf16", "bf16-mixed") and lacks_bfloat16(CPU_INFO):
        log.warning(
            "trainer.precision=%s: this processor has no instructions for bfloat16, steps will take several times as "
            "long as in float32; use trainer.precision=32-true",
            precision,
        )


def lacks_bfloat16(cpu_info: Path) -> bool:
    """Whether Linux's description of the processor lists its instructions, and none for bfloat16 among them."""
    if not cpu_info.exists():
        return False
    # x86 has "flags", ARM has "Features".
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpu_info.read_text(), re.MULTILINE)
    return found is not None and not {"avx512_bf16", "amx_bf16", "bf16"} & set(found[1].split())


def _scales_loss(config: Any) -> bool:
    return str(config.trainer.precision) in ("16", "16-mixed")
