"""Ends a run cleanly on Ctrl-C."""

import signal
from types import FrameType
from typing import Any

import lightning.pytorch as pl

INTERRUPTED_EXIT_STATUS = 128 + signal.SIGINT


class StopOnInterrupt(pl.Callback):
    """The first Ctrl-C ends training after the step, with a validation and its checkpoint; a second one at once."""

    def __init__(self) -> None:
        self.interrupted = False
        self._previous: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; not before, since at its end Lightning puts back the handlers that it found before this."""

        def stop(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.interrupted = True
            trainer.should_stop = True
            if trainer.is_global_zero:
                print("\nInterrupted: ending after this step with a checkpoint; Ctrl-C again ends at once", flush=True)

        self._previous = signal.signal(signal.SIGINT, stop)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """See Callback; after an exception there is no teardown."""
        self._restore()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See Callback."""
        self._restore()

    def _restore(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
