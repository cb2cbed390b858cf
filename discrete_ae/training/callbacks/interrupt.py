"""Ends a run cleanly on Ctrl-C."""

import signal
from types import FrameType
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn

INTERRUPTED_EXIT_STATUS = 128 + signal.SIGINT


class StopOnInterrupt(pl.Callback):
    """The first Ctrl-C ends training after a step, with a validation and its checkpoint; a second one at once.

    The signal is only noted when it comes. Processes that train together must end after the same step, so they agree on
    it with every step that is logged, and after every validation, whichever of them it has reached; asking more often
    would make a GPU wait in every step. A process that trains alone ends after the step that it is at.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._noted = False
        self._step = 0
        self._previous: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; not before, since at its end Lightning puts back the handlers that it found before this."""

        def note(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._noted = True
            if trainer.is_global_zero:
                print("\nInterrupted: ending with a checkpoint; Ctrl-C again ends at once", flush=True)

        self._step = trainer.global_step
        self._previous = signal.signal(signal.SIGINT, note)

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
        """Stop if the signal has reached any of the processes."""
        if trainer.strategy.reduce_boolean_decision(self._noted, all=False):
            self.interrupted = trainer.should_stop = True

    def _restore(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
