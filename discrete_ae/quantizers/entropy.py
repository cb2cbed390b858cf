"""The loss `code_entropy`: entropy, in bits per frame, of the distribution of codes in a batch.

Counts of codes have no gradient, so counting is soft. A value between two integers counts for both according to its
distance from each, and a random choice counts by its probability. A positive weight in conf/loss lowers the rate of the
codes; a negative weight spreads the codes over all entries.

Axes: B batch, D latent channels, T frames.
"""

import torch
from torch import Tensor

_TINY = 1e-8  # minimum of a share in the logarithm, whose slope is infinite at 0


def entropy_bits(shares: Tensor) -> Tensor:
    """Return the sum, a scalar, of the entropies in bits of the distributions (..., entries) along the last axis."""
    return -(shares * shares.clamp_min(_TINY).log2()).sum()


def soft_level_shares(scaled: Tensor, highest: Tensor, num_levels: int) -> Tensor:
    """Return the share (D, num_levels) of each integer among values (B, D, T), counted softly.

    A value u adds 1 - |u - n| to the count of each of its two neighbors n.

    Args:
        scaled: values (B, D, T) in [0, highest], B T >= 1.
        highest: highest integer of each channel, (D, 1) int64, each at least 1.
        num_levels: number of integers to count, larger than every value in `highest`.
    """
    values = scaled.transpose(0, 1).flatten(1)
    below = torch.minimum(values.detach().floor().long().clamp_min(0), highest - 1)  # NaN counts as 0
    above_it = values - below
    counts = values.new_zeros((len(values), num_levels))
    counts = counts.scatter_add(1, below, 1 - above_it).scatter_add(1, below + 1, above_it)
    return counts / values.shape[1]
