"""Which samples make which batch, and the loader that yields them: functions of the step, the rank and nothing else."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from discrete_ae.errors import DataError


@dataclass(frozen=True)
class TrainingBatches:
    """Batch sampler of one endless stream of sample numbers, shared out between the ranks.

    Batch b of rank r of w holds the numbers from (b·w + r)·batch_size on. A resumed run begins at the batch `first`;
    the length is that of the whole run, from batch 0, because Lightning counts a resumed run on from where it was.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    first: int = 0
    total: int = sys.maxsize

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.total):
            start = (batch * self.world_size + self.rank) * self.batch_size
            yield list(range(start, start + self.batch_size))


def validation_batches(num_segments: int, batch_size: int, rank: int, world_size: int) -> list[list[int]]:
    """Share the segments r, r + w, r + 2w, … of rank r into batches: each segment once, as many batches on each rank.

    Equal counts matter: a rank with one batch more would wait for the others in the first collective of that batch.
    The batches of a rank differ in size by one at most; one may exceed `batch_size` only where that is 1.

    Raises:
        DataError: fewer segments than ranks.
    """
    if num_segments < world_size:
        raise DataError(
            f"{num_segments} validation segments are fewer than the {world_size} devices; "
            "give more validation audio, a shorter data.crop_seconds, or fewer devices"
        )
    most = -(-num_segments // world_size)
    num_batches = min(-(-most // batch_size), num_segments // world_size)
    own = np.arange(rank, num_segments, world_size)
    return [batch.tolist() for batch in np.array_split(own, num_batches)]


class AudioLoader(DataLoader[Tensor]):
    """DataLoader of batches (B, C, N) that can be resumed and whose workers fail in one line.

    The place in the stream follows from the trainer's step, so there is no state to save; having the two methods
    tells Lightning that resuming in the middle is safe.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: see the class."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing: see the class."""

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:
            # An error that crosses from a worker process carries that process's traceback as its text.
            message = str(error).strip().splitlines()[-1]
            raise DataError(message.removeprefix("discrete_ae.errors.DataError: ")) from None
