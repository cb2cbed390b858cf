"""Settings of a run: their types, invalid combinations, and the meaning of "auto"."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from pydantic import AfterValidator, BeforeValidator, Field

from discrete_ae.build import PACKAGE
from discrete_ae.errors import UsageError
from discrete_ae.model.autoencoder import PARTS
from discrete_ae.paths import with_home
from discrete_ae.quantizers import Quantizer
from discrete_ae.training.compiled import require_compiler


def _seed(value: int) -> int:
    if not 0 <= value < 2**32:
        raise ValueError(f"expected a whole number from 0 to {2**32 - 1}, got {value}")
    return value


# Settings that are not arguments of a component, or are restricted further here.
SETTINGS: dict[str, Any] = {
    "name": str,
    "seed": Annotated[int, AfterValidator(_seed)],
    "num_codebooks": int,
    "ckpt_path": Annotated[str, AfterValidator(with_home)] | None,
    "init_from": Annotated[str, AfterValidator(with_home)] | None,
    "freeze": Annotated[
        list[Literal[tuple(PARTS)]],  # type: ignore[misc]
        BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
    ],
    "compile": bool,
    "force": bool,
    "float32_matmul_precision": Literal["highest", "high", "medium"],
    "run_dir": str,
    "choices": Mapping[str, str],
    "logger.wandb.group": str,
    # Lightning also allows durations, but each process has its own clock, so ranks would validate at different steps.
    "trainer.val_check_interval": Annotated[int, Field(ge=1)],
    "trainer.max_steps": Annotated[int, Field(ge=-1)],
    # Precisions that keep weights and quantizer in float32, with Lightning's other names for them.
    "trainer.precision": Literal["auto", "32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16", 32, 16],
}
"""Types of settings by dotted key."""


def check_run(config: Any) -> None:
    """Check that the settings fit together and fit this machine.

    Raises:
        UsageError: settings conflict with each other or with this machine; the message names the first conflict.
    """
    if config.ckpt_path and config.init_from:
        raise UsageError("ckpt_path resumes a run, init_from starts a new one: give only one of them")
    if config.trainer.accelerator in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise UsageError("trainer: PyTorch finds no GPU here; use trainer=auto or trainer=cpu")
    devices, cores = config.trainer.get("devices"), max(os.cpu_count() or 1, 2)
    on_cpu = config.trainer.accelerator == "cpu" or not torch.accelerator.is_available()
    if on_cpu and str(devices).isdecimal() and int(devices) > cores:  # each is a process that takes 1 GB of memory
        raise UsageError(f"trainer.devices: expected at most {cores}, since this run uses the CPU, got {devices}")
    if config.compile:
        require_compiler(for_gpu=on_gpu(config))


def check_optimization(config: Any, *, adversarial: bool) -> None:
    """Check that loss, precision and optimizer work together.

    Raises:
        UsageError: a fused optimizer with loss scaling; or, in adversarial training, loss scaling or accumulated
            gradients, which Lightning supports for a single optimizer only.
    """
    scales_loss = str(config.trainer.precision) in ("16", "16-mixed")
    if scales_loss and config.optim.optimizer.get("fused"):
        raise UsageError(
            "trainer.precision=16-mixed scales the loss, and a fused optimizer undoes that only after the gradient is "
            "clipped; use trainer.precision=bf16-mixed, or optim.optimizer.fused=false"
        )
    if adversarial and scales_loss:
        raise UsageError(
            "trainer.precision: expected 32-true or bf16-mixed with an adversarial loss, got "
            f"{config.trainer.precision}"
        )
    if adversarial and (count := config.trainer.get("accumulate_grad_batches", 1)) != 1:
        raise UsageError(
            f"trainer.accumulate_grad_batches: expected 1 with an adversarial loss, got {count}; make data.batch_size "
            "larger instead"
        )


def check_lightning(config: Any, callbacks: Mapping[str, pl.Callback]) -> None:
    """Reject features of Lightning that do not work with this training.

    Raises:
        UsageError: a strategy that trains a copy of the model in new processes, or weight averaging by epochs.
    """
    strategy = str(config.trainer.get("strategy"))
    if any(way in strategy for way in ("spawn", "fork", "notebook")):
        raise UsageError(f"trainer.strategy: {strategy} copies the model to new processes; use trainer.strategy=ddp")
    for name, callback in callbacks.items():
        if isinstance(callback, StochasticWeightAveraging):
            raise UsageError(
                f"callbacks.{name}: StochasticWeightAveraging counts epochs, and training here has none; use "
                "callbacks.ema.decay=0.999"
            )


def check_codes_of(quantizer: Quantizer) -> None:
    """Try a quantizer on a few latents if it, or a part of it, is a user's own.

    Raises:
        UsageError: its codes contradict its `codebook_sizes`.
    """
    parts = (part for part in quantizer.modules() if isinstance(part, Quantizer))
    is_own = any(type(part).__module__.partition(".")[0] != PACKAGE for part in parts)
    if is_own and quantizer.num_codebooks:
        latents = torch.randn(1, quantizer.dim, 64, generator=torch.Generator().manual_seed(0))
        try:
            quantizer.check_codes(quantizer.encode(latents))
        except (ValueError, IndexError, RuntimeError) as error:
            raise UsageError(f"quantizer: {type(quantizer).__name__}: {' '.join(str(error).split())}") from error


def check_monitors(trainer: pl.Trainer) -> None:
    """Check that the first validation, if there was one, logged every metric that a callback monitors.

    Raises:
        UsageError: a metric was not logged; Lightning would report it only after training steps.
    """
    known = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if known and isinstance(monitor, str) and monitor.startswith("val") and monitor not in known:
            raise UsageError(
                f"{type(callback).__name__}: there is no {monitor} to monitor; expected one of {', '.join(known)}"
            )


def on_gpu(config: Any) -> bool:
    """Return whether the run will use an NVIDIA GPU."""
    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def uses_cuda_graphs(config: Any) -> bool:
    """Return whether compile=true may use CUDA graphs.

    CUDA graphs require a single GPU, since their use with DDP is untested. Gradients must not be accumulated over
    batches, since a graph overwrites the gradients of the previous batch.
    """
    trainer = config.trainer
    is_single = trainer.devices in (1, "1") and trainer.get("num_nodes", 1) == 1
    return on_gpu(config) and is_single and trainer.get("accumulate_grad_batches", 1) == 1


def resolved_precision(config: Any) -> str:
    """Return the trainer's precision; "auto" means bf16-mixed on a GPU that supports it, else 32-true."""
    if config.trainer.precision != "auto":
        return config.trainer.precision
    return "bf16-mixed" if on_gpu(config) and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
