"""The loss `code_entropy`: entropy, in bits per frame, of how often entries are chosen in a batch.

A count of codes has no gradient, so counts are soft: a value between two integers counts for both by its distance to
them, a choice by its probability. A positive weight in conf/loss lowers the rate of the codes, a negative one spreads
them over all entries.

Axes: B batch, D latent channels, T frames.
"""

import torch
from torch import Tensor

_TINY = 1e-8  # shares below are raised to this before the logarithm, whose slope is infinite at 0


def entropy_bits(shares: Tensor) -> Tensor:
    """Return the sum, a scalar, of the entropies in bits of the distributions (..., entries) along the last axis."""
    return -(shares * shares.clamp_min(_TINY).log2()).sum()


def soft_level_shares(scaled: Tensor, highest: Tensor, num_levels: int) -> Tensor:
    """Return the share (D, num_levels) of each integer among values (B, D, T), softly counted.

    A value u counts as 1 - |u - n| of each of its two neighbours n.

    Args:
        scaled: (B, D, T) in [0, highest], B T >= 1.
        highest: (D, 1) int64, each at least 1.
        num_levels: above every one of `highest`.
    """
    values = scaled.transpose(0, 1).flatten(1)
    below = torch.minimum(values.detach().floor().long().clamp_min(0), highest - 1)  # NaN counts as 0
    above_it = values - below
    counts = values.new_zeros((len(values), num_levels))
    counts = counts.scatter_add(1, below, 1 - above_it).scatter_add(1, below + 1, above_it)
    return counts / values.shape[1]
