"""Progress of a run in the terminal."""

import time
from typing import Any, cast

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor


class TrainingProgress(pl.callbacks.ProgressBar):
    """A bar with loss, SI-SDR and code usage on a terminal, and one line for every validation anywhere.

    Args:
        refresh_seconds: least time between two looks at the loss, each of which waits for the device. Only logged
            steps are looked at, which wait anyway.
    """

    def __init__(self, refresh_seconds: float = 0.5) -> None:
        super().__init__()
        self.refresh_seconds = refresh_seconds
        self.console = Console(soft_wrap=True)
        self.enabled = True
        self.bar: Progress | None = None
        self._looked_at = 0.0
        self._figures = ""

    def disable(self) -> None:
        """See ProgressBar."""
        self.enabled = False

    def enable(self) -> None:
        """See ProgressBar."""
        self.enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        if not (self.enabled and self.console.is_terminal):
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
        is_logged = bool(every) and trainer.global_step % every == 0
        if is_logged and time.monotonic() - self._looked_at >= self.refresh_seconds:
            found = trainer.callback_metrics
            loss = f"loss {found['train/loss']:.3f}  " if "train/loss" in found else ""
            self._figures = loss + self._validation_figures(found)
            self._looked_at = time.monotonic()
        self.bar.update(self.task, completed=trainer.global_step, figures=self._figures)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        if not self.enabled or not trainer.is_global_zero:
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
