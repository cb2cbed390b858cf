"""Parts of vector quantizers: the search for the nearest entry, and codebooks that learn by averaging.

All K codebooks are computed at once, without branches on data. A training step is thus one graph and never waits for a
GPU.

Axes: B batch, D latent channels, T frames, K codebooks, S entries of each, N = B T vectors, d channels of one codebook.
"""

import torch
from torch import Tensor

from discrete_ae.ranks import num_ranks, rank, sum_over_ranks

_IN_CACHE = 2**19  # number of products, 2 MiB
_SMOOTHING = 1e-5  # added to every count, so that an entry without vectors has a mean


@torch.library.custom_op("discrete_ae::snapshot", mutates_args=())
def snapshot(x: Tensor) -> Tensor:
    """Return a copy of x, for a forward pass that reads x and then overwrites it.

    Inductor (torch 2.11) may move a read of x behind the write to x, even if the read is a clone(). It cannot look into
    a custom operation such as this one. Compute the new values of x from this copy, so that the write must follow the
    read.
    """
    return x.clone()


snapshot.register_fake(torch.empty_like)
snapshot.register_autograd(lambda ctx, gradient: gradient)


@torch.no_grad()
def nearest(vectors: Tensor, codebooks: Tensor) -> Tensor:
    """Return codes (K, N) int64: the indices of the entries in codebooks (K, S, d) nearest to vectors (K, N, d).

    |z - e|^2 = |z|^2 - 2 (z e - |e|^2 / 2); the first term is the same for every entry and left out. On a CPU, vectors
    are processed in pieces whose products stay in the cache.
    """
    half_squares = codebooks.square().sum(dim=-1)[:, None] / 2
    piece = max(1, vectors.shape[1])
    if vectors.device.type == "cpu" and not torch.compiler.is_compiling():
        piece = max(1, _IN_CACHE // (codebooks.shape[0] * codebooks.shape[1]))
    parts = vectors.split(piece, dim=1)
    found = [torch.baddbmm(half_squares, part, codebooks.mT, beta=-1).argmax(dim=-1) for part in parts]
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)


def look_up(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Return the entries (K, N, d) of codebooks (K, S, d) for codes (K, N)."""
    return codebooks.gather(1, codes[..., None].expand(-1, -1, codebooks.shape[-1]))


@torch.no_grad()
def count_and_sum(vectors: Tensor, codes: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """Return for each entry the count (K, S) and the sum (K, S, d) of the vectors of all ranks that chose it.

    Vectors (K, N, d) are those of this rank, and codes (K, N) are their choices.
    """
    rows = torch.cat([vectors, torch.ones_like(vectors[..., :1])], dim=-1)
    totals = rows.new_zeros((len(rows), codebook_size, rows.shape[-1]))
    totals = sum_over_ranks(totals.scatter_add(1, codes[..., None].expand_as(rows), rows))
    return totals[..., -1], totals[..., :-1]


def means(counts: Tensor, sums: Tensor) -> Tensor:
    """Return the means (K, S, d), sums (K, S, d) / counts (K, S), with Laplace smoothing of the counts."""
    total = counts.sum(dim=-1, keepdim=True)
    smoothed = (counts + _SMOOTHING) / (total + counts.shape[-1] * _SMOOTHING) * total
    return sums / smoothed[..., None]


@torch.no_grad()
def replacements(vectors: Tensor, dead: Tensor) -> tuple[Tensor, Tensor]:
    """Draw vectors (K, N, d) to replace dead entries (K, S), each vector at most once.

    Every rank draws from its own vectors, and the r-th dead entry takes a vector of rank r mod R. All ranks must pass
    the same `dead`; they then get the same replacements.

    Returns:
        Values (K, S, d), and a mask (K, S) of the entries to replace: the dead entries that got a vector.
    """
    place = dead.cumsum(dim=-1) - 1  # index among the dead entries
    turn, giver = place // num_ranks(), place % num_ranks()
    drawn = torch.rand(vectors.shape[:2], device=vectors.device)
    drawn = drawn.topk(min(vectors.shape[1], dead.shape[1]), dim=-1).indices
    values = look_up(vectors, drawn.gather(1, turn.clamp(0, drawn.shape[1] - 1)))
    values = sum_over_ranks(torch.where((giver == rank())[..., None], values, 0.0))
    return values, dead & (turn < drawn.shape[1])


@torch.no_grad()
def k_means(vectors: Tensor, codebooks: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Cluster the vectors (K, N, d) of all ranks by `steps` rounds of Lloyd's algorithm, from vectors drawn at random.

    Entries that no vector chooses keep their value. If there are fewer vectors than entries, the other entries start
    from codebooks (K, S, d).

    Returns:
        The entries (K, S, d), and the number (K, S) of vectors that chose each entry.
    """
    values, drawn = replacements(vectors, torch.ones_like(codebooks[..., 0], dtype=torch.bool))
    entries = torch.where(drawn[..., None], values, codebooks)
    for _ in range(steps):
        counts, sums = count_and_sum(vectors, nearest(vectors, entries), codebooks.shape[1])
        entries = torch.where(counts[..., None] > 0, sums / counts.clamp_min(1)[..., None], entries)
    counts, _ = count_and_sum(vectors, nearest(vectors, entries), codebooks.shape[1])
    return entries, counts
