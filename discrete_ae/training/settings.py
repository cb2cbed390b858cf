"""The settings of a run: their types, those that do not go together, and what "auto" comes to."""

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


# What is no component's argument, or is narrower here than there.
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
    # Not Lightning's times either: each process has its own clock, so processes would not validate at the same step.
    "trainer.val_check_interval": Annotated[int, Field(ge=1)],
    # Those in which weights and quantizer are in float32, with Lightning's other names for them.
    "trainer.precision": Literal["auto", "32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16", 32, 16],
}
"""Types by dotted key."""


def check_run(config: Any) -> None:
    """Look for settings that do not go together, or not on this machine.

    Raises:
        UsageError: for the first of them.
    """
    if config.ckpt_path and config.init_from:
        raise UsageError("ckpt_path goes on with a run, init_from starts a new one: give one of them")
    if config.trainer.accelerator in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise UsageError("trainer: PyTorch finds no GPU here; use trainer=auto or trainer=cpu")
    if config.compile:
        require_compiler(for_gpu=on_gpu(config))


def check_optimization(config: Any, *, adversarial: bool) -> None:
    """Look for what the loss and the optimizer do not do together.

    Raises:
        UsageError: for a fused optimizer where the precision scales the loss; with two optimizers, for what Lightning
            does for one alone: a precision that scales the loss, and accumulated gradients.
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
    """Look for what Lightning offers and training here cannot use.

    Raises:
        UsageError: for processes that keep what they train to themselves, and for averages over epochs.
    """
    strategy = str(config.trainer.get("strategy"))
    if any(way in strategy for way in ("spawn", "fork", "notebook")):
        raise UsageError(f"trainer.strategy: {strategy} hands the model to new processes; use trainer.strategy=ddp")
    for name, callback in callbacks.items():
        if isinstance(callback, StochasticWeightAveraging):
            raise UsageError(
                f"callbacks.{name}: StochasticWeightAveraging counts epochs, of which training has none; average with "
                "callbacks.ema.decay=0.999"
            )


def check_codes_of(quantizer: Quantizer) -> None:
    """Try a quantizer on a few latents if it, or a part of it, is a user's own.

    Raises:
        UsageError: its codes are not those that it says it makes.
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
    """Look, after a validation, if there was one, for callbacks that go by a metric of it which there is not.

    Raises:
        UsageError: for the first of them; Lightning would say so only after steps of training.
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
    """Return whether compile=true may give a GPU its work as CUDA graphs.

    One GPU alone: how the gradients that a graph leaves in its own memory go with those that DDP sums is untried. And
    no accumulated gradients: a graph overwrites those of the batch before.
    """
    trainer = config.trainer
    is_single = trainer.devices in (1, "1") and trainer.get("num_nodes", 1) == 1
    return on_gpu(config) and is_single and trainer.get("accumulate_grad_batches", 1) == 1


def resolved_precision(config: Any) -> str:
    """Resolve the trainer's precision: "auto" is bf16 where a GPU will be used that has it."""
    if config.trainer.precision != "auto":
        return config.trainer.precision
    return "bf16-mixed" if on_gpu(config) and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
