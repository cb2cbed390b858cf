"""What the configuration of a run must hold, said before anything is made of it."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from discrete_ae.errors import UsageError
from discrete_ae.records import Record
from discrete_ae.training.compiled import require_compiler


class _Root(Record):
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    compile: bool
    float32_matmul_precision: Literal["highest", "high", "medium"]


class _Trainer(Record):
    # Not Lightning's times either: each process has its own clock, so processes would not validate at the same step.
    val_check_interval: Annotated[int, Field(ge=1)]
    # Those in which weights and quantizer are in float32, with Lightning's other names for them.
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16", 32, 16]


def check_run(config: Any) -> None:
    """Look at the root and at the trainer of a composed configuration.

    Raises:
        UsageError: for values that do not fit.
    """
    for record, part, prefix in ((_Root, config, ""), (_Trainer, config.trainer, "trainer.")):
        try:
            record.of({name: part[name] for name in record.model_fields})
        except ValueError as error:
            raise UsageError(f"{prefix}{error}") from error
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
