"""Gradients of vector quantization, from the chosen entry to the latents and to the entry.

Each function takes vectors and their chosen entries, and returns the output of the forward pass in training. Choosing
an entry has no gradient; the functions differ in what they return and in the gradient that they use instead:

    straight_through    the entry; the gradient passes to the vector unchanged
    rotation            the entry; the gradient is that of rotating and scaling the vector onto the entry
    mste                the entry; like straight_through, but the error grows with the spread of the vectors
    diveq               a point very near the entry; the gradient reaches both vector and entry
    nsvq                a random point as far from the vector as the entry; the gradient reaches both vector and entry

Axes: B batch, K codebooks, d channels of one codebook, T frames. Vectors are along the third axis.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_ae.quantizers.base import straight_through
from discrete_ae.ranks import mean_over_ranks, shared_mean_over_ranks

Gradient = Literal["straight_through", "rotation", "mste", "diveq", "nsvq"]

_TINY = 1e-6  # minimum length by which vectors are divided
_DIVEQ_VARIANCE = 1e-3  # variance of the noise in each channel; the paper recommends less than 1e-2


class _Rotated(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(source: Tensor, target: Tensor, dim: int) -> Tensor:
        return target.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        source, target, ctx.dim = inputs
        ctx.save_for_backward(source, target)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), dim = gradients, ctx.dim
        source, target = (saved.detach() for saved in ctx.saved_tensors)
        lengths = [vector.norm(dim=dim, keepdim=True) for vector in (source, target)]
        u, q = source / lengths[0].clamp_min(_TINY), target / lengths[1].clamp_min(_TINY)
        w = F.normalize(u + q, dim=dim, eps=_TINY)
        # R = 1 - 2 w w^T + 2 q u^T, and this is its transpose.
        along_w, along_q = ((gradient * axis).sum(dim, keepdim=True) for axis in (w, q))
        turned = gradient - 2 * along_w * w + 2 * along_q * u
        return turned * (lengths[1] / lengths[0].clamp_min(_TINY)), None, None


def rotation(vectors: Tensor, entries: Tensor) -> Tensor:
    """Return the entries (B, K, d, T) with the gradient of the rotation trick (Fifty et al. 2024, arXiv:2410.06424).

    The gradient is that of v -> c R v with constant R and c. R rotates the vector onto its entry; c is the ratio of
    their lengths. Entries have no gradient.
    """
    return _Rotated.apply(vectors, entries.detach(), 2)


def mste(vectors: Tensor, entries: Tensor) -> Tensor:
    """Return the entries (B, K, d, T) with the gradient of the modified straight-through estimator.

    Mack et al. 2025 (arXiv:2502.04770): the error e - v is treated as noise in proportion to the spread s of the
    vectors. The gradient is that of v + s / sg(s) sg(e - v), with sg the stop-gradient. An encoder thus cannot make the
    error relatively small by making its latents large. Here s is the standard deviation of a codebook's channels over
    the batch of all ranks.
    """
    mean = mean_over_ranks(vectors.detach().mean(dim=(0, 2, 3), keepdim=True))  # the variance has slope 0 in the mean
    variance = shared_mean_over_ranks((vectors - mean).square().mean(dim=(0, 2, 3), keepdim=True))
    spread = variance.clamp_min(_TINY**2).sqrt()
    error = (entries - vectors).detach()
    return straight_through(vectors + error * (spread / spread.detach()), entries.detach())


def diveq(vectors: Tensor, entries: Tensor) -> Tensor:
    """Return v + |e - v| sg(u), with u the direction of e - v plus a little noise (DiVeQ, arXiv:2509.26469).

    The result is very near the entry e. The gradient reaches both v and e, so no other loss is needed.
    """
    error = entries - vectors
    return _moved(vectors, error, error.detach() + _DIVEQ_VARIANCE**0.5 * torch.randn_like(error))


def nsvq(vectors: Tensor, entries: Tensor) -> Tensor:
    """Return v + |e - v| u, with u a random direction (NSVQ, Vali & Backstrom 2022, IEEE Access 10).

    The result is as far from v as the entry e is. The gradient reaches both v and e.
    """
    error = entries - vectors
    return _moved(vectors, error, torch.randn_like(error))


def _moved(vectors: Tensor, error: Tensor, direction: Tensor) -> Tensor:
    return vectors + error.norm(dim=2, keepdim=True) * F.normalize(direction, dim=2, eps=_TINY)


GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "straight_through": lambda vectors, entries: straight_through(vectors, entries.detach()),
    "rotation": rotation,
    "mste": mste,
    "diveq": diveq,
    "nsvq": nsvq,
}
MOVES_ENTRIES = frozenset({"diveq", "nsvq"})
"""Names of the gradients that reach the entries; these do not emit the entries exactly in training."""
