"""Random changes to training crops that leave what is heard the same."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from discrete_ae.data.level import amplify


@dataclass(frozen=True)
class Augmentation:
    """A random gain and a random polarity for audio (C, N), full scale at -1 and 1.

    Both are drawn whether they are used or not: switching one on leaves the other's draws as they were.
    """

    gain_db: tuple[float, float] | None = None
    """The gain is uniform in dB between these, lowered where the peak would exceed 1; None for no gain."""
    flip_polarity: bool = False
    """Whether the audio is multiplied by -1 with probability 1/2."""

    def __call__(self, audio: Tensor, random: np.random.Generator) -> Tensor:
        """Return the changed audio (C, N), drawn from `random`."""
        place, coin = random.random(2)
        if self.gain_db is not None:
            low, high = self.gain_db
            audio = amplify(audio, low + (high - low) * place)
        return -audio if self.flip_polarity and coin < 0.5 else audio
