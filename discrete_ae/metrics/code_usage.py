"""How much of its codebooks a quantizer uses, counted over everything seen and over all ranks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class CodeUsage(Metric):
    """Counts codes; gives usage, perplexity and entropy.

    `compute` returns scalars: "usage", the fraction of entries used at least once, mean over codebooks, in [0, 1];
    "perplexity", exp of the entropy of the code distribution, mean over codebooks; "entropy_bits", bits per frame,
    summed over codebooks. All are 0 before the first update.

    Args:
        codebook_sizes: entries of each of the K >= 1 codebooks.
    """

    full_state_update = False
    higher_is_better = True
    counts: Tensor

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        super().__init__()
        self.codebook_sizes = tuple(codebook_sizes)
        shape = (len(self.codebook_sizes), max(self.codebook_sizes))
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Count codes (B, K, T) int64."""
        num_codebooks, size = self.counts.shape
        offsets = torch.arange(num_codebooks, device=codes.device)[:, None] * size
        flat = (codes + offsets).flatten()
        self.counts.view(-1).index_add_(0, flat, torch.ones_like(flat))  # bincount makes a GPU wait in every step

    def compute(self) -> dict[str, Tensor]:
        """Usage, perplexity and entropy_bits, as the class says."""
        counts = self.counts.cpu().double()  # not every accelerator has float64
        shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
        entropy_nats = torch.special.entr(shares).sum(dim=1)
        seen = counts.any(dim=1)
        return {
            "usage": ((counts > 0).sum(dim=1) / torch.tensor(self.codebook_sizes)).mean(),
            "perplexity": (entropy_nats.exp() * seen).mean().float(),
            "entropy_bits": (entropy_nats.sum() / math.log(2)).float(),
        }
