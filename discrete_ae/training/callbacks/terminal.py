"""Callbacks for a person at the terminal: progress, a warning of collapsed codes, Ctrl-C and SIGTERM."""

import logging
import signal
from types import FrameType
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from discrete_ae.checks import in_unit_interval
from discrete_ae.signals import SIGNALLED, exit_at_once
from discrete_ae.training.module import AutoencoderModule

log = logging.getLogger(__name__)


class TrainingProgress(pl.Callback):
    """Shows a bar with loss, SI-SDR and code usage on a terminal, and prints a line for every validation.

    The loss is looked at in logged steps alone: a look waits for the device, and so does the log.
    """

    def __init__(self) -> None:
        self.console = Console(soft_wrap=True)
        self.bar: Progress | None = None
        self._figures = ""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        if not (trainer.is_global_zero and self.console.is_terminal):
            return
        self.bar = Progress(
            BarColumn(bar_width=8),  # all of it fits into 80 columns
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
        )
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self.task = self.bar.add_task("training", total=total, figures="", completed=trainer.global_step)
        self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See Callback."""
        if self.bar is None:
            return
        every = cast(Any, trainer).log_every_n_steps
        if every and trainer.global_step % every == 0:
            found = trainer.callback_metrics
            loss = f"loss {found['train/loss']:.3f}  " if "train/loss" in found else ""
            self._figures = loss + self._validation_figures(found)
        self.bar.update(self.task, completed=trainer.global_step, figures=self._figures)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        if not trainer.is_global_zero:
            return
        found = trainer.callback_metrics
        self.console.print(
            f"step {trainer.global_step:>6}  validation: reconstruction {found['val/reconstruction']:.4f}  "
            f"{self._validation_figures(found)}",
            highlight=False,
        )

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """See Callback; after an exception there is no teardown, and the terminal's cursor must come back."""
        self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See Callback."""
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    @staticmethod
    def _validation_figures(found: dict[str, Tensor]) -> str:
        figures = f"SI-SDR {found['val/si_sdr_db']:.2f} dB" if "val/si_sdr_db" in found else ""
        if "val/codes/usage" in found:
            figures += f"  codes used {found['val/codes/usage']:.0%}"
        return figures


class WarnOfCollapse(pl.Callback):
    """Warns after a validation whose perplexity is below a share of the codebook size.

    Args:
        min_share: of the mean codebook size, in [0, 1].
        after_steps: an untrained network is not warned of.
    """

    def __init__(self, min_share: float = 0.05, after_steps: int = 100) -> None:
        self.min_share = in_unit_interval("min_share", min_share)
        self.after_steps = after_steps

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        assert isinstance(pl_module, AutoencoderModule)
        perplexity = trainer.callback_metrics.get("val/codes/perplexity")
        if perplexity is None or trainer.global_step < self.after_steps or not trainer.is_global_zero:
            return
        sizes = pl_module.model.quantizer.codebook_sizes
        needed = self.min_share * sum(sizes) / len(sizes)
        if perplexity < needed:
            log.warning(
                "step %d: the codes are collapsing: perplexity %.1f of %d entries, below %.1f; "
                "lower optim.optimizer.lr or try another quantizer",
                trainer.global_step,
                perplexity,
                max(sizes),
                needed,
            )


class StopOnInterrupt(pl.Callback):
    """Ends training on Ctrl-C or SIGTERM after a step, with a validation and its checkpoint; on a second one at once.

    The signal is only noted when it comes. Processes that train together must end after the same step, so they agree on
    it with every step that is logged, and after every validation, whichever of them it has reached; asking more often
    would make a GPU wait in every step. A process that trains alone ends after the step that it is at.
    """

    def __init__(self) -> None:
        self.ended_by = 0
        """The number of the signal that ended the training; 0 for none."""
        self._noted = 0
        self._step = 0
        self._previous: dict[int, Any] = {}

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; before the first step there is nothing to keep.

        Lightning's own handler of SIGTERM lets a validation go on, and waits for the other processes.
        """
        if trainer.state.fn == TrainerFn.VALIDATING:
            signal.signal(signal.SIGTERM, exit_at_once)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; not before, since at its end Lightning puts back the handlers that it found before this."""

        def note(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, exit_at_once)
            self._noted = number
            if trainer.is_global_zero:
                print(f"\n{SIGNALLED[128 + number]}: ending with a checkpoint; a second time ends at once", flush=True)

        self._step = trainer.global_step
        self._previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See Callback."""
        step = trainer.global_step
        if step == self._step:  # a batch whose gradient is only accumulated
            return
        self._step = step
        every = cast(Any, trainer).log_every_n_steps if trainer.world_size > 1 else 1
        if every and step % every == 0:
            self._agree(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; in the validation before the first step nothing is noted yet."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._agree(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """See Callback; after an exception there is no teardown."""
        self._restore()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See Callback."""
        self._restore()

    def _agree(self, trainer: pl.Trainer) -> None:
        """Stop if a signal has reached any of the processes."""
        noted = self._noted
        if trainer.world_size > 1:
            own = torch.tensor(noted, device=trainer.strategy.root_device)
            noted = int(cast(Tensor, trainer.strategy.reduce(own, reduce_op="max")))
        if noted:
            self.ended_by = noted
            trainer.should_stop = True

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
