"""The rate of codes as a loss: entropy, in bits per frame, of how often entries are chosen in a batch, made smooth.

A count of codes has no gradient. A soft count has: a value between two integers counts for both, by its nearness; a
choice by its probability. Weighted above 0 the entropy makes codes cheaper to store by an ideal coder, below 0 it has
all of them used (conf/loss).

Axes: B batch, D latent channels, T frames.
"""

import torch
from torch import Tensor

_TINY = 1e-8  # the least share whose logarithm is taken: that of 0 has no finite slope


def entropy_bits(shares: Tensor) -> Tensor:
    """Sum of the entropies, in bits, of the distributions (..., entries) along the last axis; a scalar."""
    return -(shares * shares.clamp_min(_TINY).log2()).sum()


def soft_level_shares(scaled: Tensor, highest: Tensor, num_levels: int) -> Tensor:
    """How often each integer is the nearest to values (B, D, T) in [0, highest], B T >= 1: (D, num_levels).

    A value u counts 1 - |u - n| for each of its two neighbours n.

    Args:
        scaled: (B, D, T).
        highest: (D, 1) int64, each at least 1.
        num_levels: more than every one of `highest`.
    """
    values = scaled.transpose(0, 1).flatten(1)
    below = torch.minimum(values.detach().floor().long().clamp_min(0), highest - 1)  # of what is no number, 0
    above_it = values - below
    counts = values.new_zeros((len(values), num_levels))
    counts = counts.scatter_add(1, below, 1 - above_it).scatter_add(1, below + 1, above_it)
    return counts / values.shape[1]
