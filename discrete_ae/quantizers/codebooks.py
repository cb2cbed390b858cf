"""Parts of vector quantizers: the search for the nearest entry, its gradient, and codebooks that learn by averaging.

All K codebooks are computed at once, without branches on data, so that a training step is one graph and never waits for
a GPU.

Axes: B batch, D latent channels, T frames, K codebooks, S entries of each, N = B T vectors, d channels of one codebook.
"""

from typing import Any

import torch
from torch import Tensor

from discrete_ae.checks import whole_number
from discrete_ae.quantizers.base import Quantizer
from discrete_ae.ranks import num_ranks, rank, sum_over_ranks

_TINY = 1e-6  # vectors are divided by no smaller length
_SMOOTHING = 1e-5  # added to every count, so that an entry without vectors has a mean


class SideBySide(Quantizer):
    """Base of quantizers with K codebooks of S entries, each for d = `codebook_dim` channels of its own: D = K d."""

    def __init__(self, codebook_size: int, num_codebooks: int, codebook_dim: int) -> None:
        codebook_size = whole_number("codebook_size", codebook_size, 2)
        num_codebooks = whole_number("num_codebooks", num_codebooks, 1)
        codebook_dim = whole_number("codebook_dim", codebook_dim, 1)
        super().__init__(dim=num_codebooks * codebook_dim, codebook_sizes=[codebook_size] * num_codebooks)
        self.codebook_dim = codebook_dim

    def _split(self, latents: Tensor) -> Tensor:
        """(B, K d, T) to (B, K, d, T)."""
        return latents.unflatten(1, (self.num_codebooks, self.codebook_dim))


@torch.library.custom_op("discrete_ae::snapshot", mutates_args=())
def snapshot(x: Tensor) -> Tensor:
    """Return a copy of x, for a forward that reads x and then overwrites it.

    Inductor (torch 2.11) may move a read of x, also one by clone(), behind the write to x. It cannot look into a custom
    operation; and where the values written to x are computed from this copy, the write must come after the read.
    """
    return x.clone()


snapshot.register_fake(torch.empty_like)
snapshot.register_autograd(lambda ctx, gradient: gradient)


@torch.no_grad()
def nearest(vectors: Tensor, codebooks: Tensor) -> Tensor:
    """Return the codes (K, N) int64 of the entries of codebooks (K, S, d) that are nearest to vectors (K, N, d).

    |z - e|^2 = |z|^2 - 2 (z e - |e|^2 / 2), whose first term is the same for every entry.
    """
    half_squares = codebooks.square().sum(dim=-1)[:, None] / 2
    return torch.baddbmm(half_squares, vectors, codebooks.mT, beta=-1).argmax(dim=-1)


def look_up(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Return the entries (K, N, d) of codebooks (K, S, d) for codes (K, N)."""
    return codebooks.gather(1, codes[..., None].expand(-1, -1, codebooks.shape[-1]))


def rotated(source: Tensor, target: Tensor, dim: int) -> Tensor:
    """Return `target` with the gradient of the rotation trick for `source` (Fifty et al. 2024, arXiv:2410.06424, 4.2).

    The gradient is that of source -> c R source, with constants R, the rotation of the vectors `source` along `dim`
    onto `target`, and c, the ratio of their lengths. `target` has no gradient.
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
    """Count and sum the vectors (K, N, d) of all ranks that chose each entry by codes (K, N): (K, S) and (K, S, d)."""
    rows = torch.cat([vectors, torch.ones_like(vectors[..., :1])], dim=-1)
    totals = rows.new_zeros((len(rows), codebook_size, rows.shape[-1]))
    totals = sum_over_ranks(totals.scatter_add(1, codes[..., None].expand_as(rows), rows))
    return totals[..., -1], totals[..., :-1]


def means(counts: Tensor, sums: Tensor) -> Tensor:
    """Return entries (K, S, d) as the means sums (K, S, d) / counts (K, S), with Laplace smoothing of the counts."""
    total = counts.sum(dim=-1, keepdim=True)
    smoothed = (counts + _SMOOTHING) / (total + counts.shape[-1] * _SMOOTHING) * total
    return sums / smoothed[..., None]


@torch.no_grad()
def replacements(vectors: Tensor, dead: Tensor) -> tuple[Tensor, Tensor]:
    """Draw vectors (K, N, d) to replace dead entries (K, S), each vector at most once.

    Every rank draws from its own vectors, and the r-th dead entry takes one of rank r mod R. All ranks must be given
    the same `dead`, and then get the same replacements.

    Returns:
        Values (K, S, d), and a mask (K, S) of the entries to replace: `dead` but for those left without a vector.
    """
    place = dead.cumsum(dim=-1) - 1  # number of an entry among the dead
    turn, giver = place // num_ranks(), place % num_ranks()
    drawn = torch.rand(vectors.shape[:2], device=vectors.device)
    drawn = drawn.topk(min(vectors.shape[1], dead.shape[1]), dim=-1).indices
    values = look_up(vectors, drawn.gather(1, turn.clamp(0, drawn.shape[1] - 1)))
    values = sum_over_ranks(torch.where((giver == rank())[..., None], values, 0.0))
    return values, dead & (turn < drawn.shape[1])
