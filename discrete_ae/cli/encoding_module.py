"""Encoding as Lightning's `Trainer.predict` runs it: every batch is a group of recordings, of this rank's share."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
from torch import nn
from torch.utils.data import DataLoader

from discrete_ae.cli.files import Job
from discrete_ae.cli.outcome import Outcome
from discrete_ae.cli.shares import Measured
from discrete_ae.errors import DataError

EncodeGroup = Callable[[Sequence[Job]], Iterator[Outcome]]
"""Encodes recordings and writes their files; a recording that cannot be encoded is an outcome too, not an exception."""


class EncodingModule(pl.LightningModule):
    """Holds the model, so that the strategy moves it to this rank's device, and collects the outcomes.

    Args:
        model: the one that `encode_group` uses.
        encode_group: encodes recordings.
        describe: says what the file of codes of a job is that is there already.
        groups: called once all ranks have met: the groups of this rank's share.
    """

    def __init__(
        self,
        model: nn.Module,
        encode_group: EncodeGroup,
        describe: Callable[[Job], Outcome],
        groups: Callable[[], list[list[Measured]]],
    ) -> None:
        super().__init__()
        self.model = model
        self.outcomes: list[Outcome] = []
        self._encode_group = encode_group
        self._describe = describe
        self._groups = groups
        self._parent = os.getppid()

    def predict_dataloader(self) -> DataLoader[Any]:
        """The groups, and an empty one for a rank without recordings: Lightning wants at least one."""
        return DataLoader(self._groups() or [[]], batch_size=None, collate_fn=list)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """See LightningModule; there is no tensor in a group."""
        return batch

    def predict_step(self, batch: list[Measured], batch_idx: int) -> int:
        """Encode a group, and return how many recordings it has.

        Raises:
            DataError: the process that started this one has ended.
            SystemExit: this one is to end, by SIGTERM.
        """
        self.outcomes += [self._describe(found.job) for found in batch if found.is_done]
        for outcome in self._encode_group([found.job for found in batch if not found.is_done]):
            self.outcomes.append(outcome)
            self._check_wanted()
        return len(batch)  # of None Lightning would warn

    def _check_wanted(self) -> None:
        # Nobody tells the processes that Lightning started of the end of the one that did.
        if os.environ.get("LOCAL_RANK", "0") != "0" and os.getppid() != self._parent:
            raise DataError("the process that started this one has ended; run again with --skip-existing")
        if self.trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM)
