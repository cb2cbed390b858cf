"""Callbacks for the terminal: progress, a warning about collapsed codes, Ctrl-C and SIGTERM."""

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
    """A progress bar with loss, SI-SDR and code usage on a terminal, and one printed line per validation.

    The bar reads the loss only at logged steps, since reading makes the program wait for the device.
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
            BarColumn(bar_width=8),  # the whole line fits into 80 columns
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
        """See Callback; Lightning skips teardown after an exception, and the bar must restore the cursor."""
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
    """A callback that warns after a validation if the perplexity is below a share of the codebook size.

    Args:
        min_share: lowest perplexity without a warning, as a share of the mean codebook size, in [0, 1].
        after_steps: first step at which the callback may warn.
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
    """A callback that ends training on Ctrl-C or SIGTERM, with a validation and a checkpoint.

    The signal handler only records the first signal; a second one ends the process at once. A single process ends after
    its current step. Distributed processes must end after the same step, so they exchange the recorded signals at every
    logged step and after every validation. Doing so at every step would make the GPU wait.
    """

    def __init__(self) -> None:
        self.ended_by = 0
        """Number of the signal that ended training; 0 for none."""
        self._noted = 0
        self._step = 0
        self._previous: dict[int, Any] = {}

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; in the validation before the first step, SIGTERM ends the run at once: nothing has to be saved.

        Lightning's own SIGTERM handler would finish the validation and wait for the other processes.
        """
        if trainer.state.fn == TrainerFn.VALIDATING:
            signal.signal(signal.SIGTERM, exit_at_once)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; installs handlers after Lightning has saved the old ones, which it restores at the end."""

        def note(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, exit_at_once)
            self._noted = number
            if trainer.is_global_zero:
                print(f"\n{SIGNALLED[128 + number]}: saving a checkpoint; another signal ends at once", flush=True)

        self._step = trainer.global_step
        self._previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See Callback."""
        step = trainer.global_step
        if step == self._step:  # gradients accumulated, no optimizer step
            return
        self._step = step
        every = cast(Any, trainer).log_every_n_steps if trainer.world_size > 1 else 1
        if every and step % every == 0:
            self._agree(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; no signal is recorded during the validation before the first step."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._agree(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """See Callback; Lightning skips teardown after an exception."""
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
