"""What vector quantizers are made of: the nearest entry, its gradient, and codebooks that follow what chooses them.

All K codebooks at once, without branches on data, so that a training step is one graph and never waits for a GPU.

Axes: K codebooks, S entries of each, N vectors that choose, d channels of one codebook.
"""

from typing import Any

import torch
from torch import Tensor

from discrete_ae.ranks import num_ranks, rank, sum_over_ranks

_TINY = 1e-6  # the least length that a vector is divided by
_SMOOTHING = 1e-5  # added to every count: the mean of what nothing has chosen


@torch.library.custom_op("discrete_ae::snapshot", mutates_args=())
def snapshot(x: Tensor) -> Tensor:
    """A copy of x, to be read instead of x wherever the same forward overwrites x.

    An operation that a compiler cannot look into: Inductor (of torch 2.11) may move a read of x behind the overwriting
    of it, copies included. What is written here follows from what was read, and so cannot come first.
    """
    return x.clone()


snapshot.register_fake(torch.empty_like)
snapshot.register_autograd(lambda ctx, gradient: gradient)


@torch.no_grad()
def nearest(vectors: Tensor, codebooks: Tensor) -> Tensor:
    """Code (K, N) int64 of the entry nearest to each of the vectors (K, N, d), of codebooks (K, S, d).

    |z - e|^2 = |z|^2 - 2 (z e - |e|^2 / 2), whose first part is the same for every entry.
    """
    half_squares = codebooks.square().sum(dim=-1)[:, None] / 2
    return torch.baddbmm(half_squares, vectors, codebooks.mT, beta=-1).argmax(dim=-1)


def look_up(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Entries (K, N, d) of codebooks (K, S, d) that codes (K, N) name."""
    return codebooks.gather(1, codes[..., None].expand(-1, -1, codebooks.shape[-1]))


def rotated(source: Tensor, target: Tensor, dim: int) -> Tensor:
    """`target`, with the gradient of the rotation trick to `source` (Fifty et al. 2024, arXiv:2410.06424, section 4.2).

    The gradient is that of source -> c R source, where R rotates the vector `source` along `dim` onto `target` and c is
    the ratio of their lengths; both are constants to it, and it does not reach `target`.
    """
    return _Rotated.apply(source, target, dim)


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, target: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(source, target)
        ctx.dim = dim
        return target.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), dim = gradients, ctx.dim
        source, target = (saved.detach() for saved in ctx.saved_tensors)
        lengths = [vector.norm(dim=dim, keepdim=True) for vector in (source, target)]
        u, q = source / lengths[0].clamp_min(_TINY), target / lengths[1].clamp_min(_TINY)
        w = torch.nn.functional.normalize(u + q, dim=dim, eps=_TINY)
        # R = 1 - 2 w w^T + 2 q u^T, and this is its transpose.
        along_w, along_q = ((gradient * axis).sum(dim, keepdim=True) for axis in (w, q))
        turned = gradient - 2 * along_w * w + 2 * along_q * u
        return turned * (lengths[1] / lengths[0].clamp_min(_TINY)), None, None


@torch.no_grad()
def count_and_sum(vectors: Tensor, codes: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """How many of the vectors (K, N, d) chose each entry by codes (K, N), and their sum: (K, S) and (K, S, d).

    Those of all ranks.
    """
    rows = torch.cat([vectors, torch.ones_like(vectors[..., :1])], dim=-1)
    totals = rows.new_zeros((len(rows), codebook_size, rows.shape[-1]))
    totals = sum_over_ranks(totals.scatter_add(1, codes[..., None].expand_as(rows), rows))
    return totals[..., -1], totals[..., :-1]


def means(counts: Tensor, sums: Tensor) -> Tensor:
    """Entries (K, S, d) as the means of counts (K, S) and sums (K, S, d), the counts smoothed after Laplace."""
    total = counts.sum(dim=-1, keepdim=True)
    smoothed = (counts + _SMOOTHING) / (total + counts.shape[-1] * _SMOOTHING) * total
    return sums / smoothed[..., None]


@torch.no_grad()
def replacements(vectors: Tensor, dead: Tensor) -> tuple[Tensor, Tensor]:
    """Random ones of the vectors (K, N, d) for dead entries (K, S), no vector for two of them.

    Every rank draws from its own vectors; the r-th dead entry is given one of rank r mod R, so that `dead` the same on
    all ranks gives replacements that are.

    Returns:
        Values (K, S, d), and which entries are replaced (K, S): `dead`, less those for which no vector is left.
    """
    place = dead.cumsum(dim=-1) - 1  # of an entry among the dead
    turn, giver = place // num_ranks(), place % num_ranks()
    drawn = torch.rand(vectors.shape[:2], device=vectors.device)
    drawn = drawn.topk(min(vectors.shape[1], dead.shape[1]), dim=-1).indices
    values = look_up(vectors, drawn.gather(1, turn.clamp(0, drawn.shape[1] - 1)))
    values = sum_over_ranks(torch.where((giver == rank())[..., None], values, 0.0))
    return values, dead & (turn < drawn.shape[1])
