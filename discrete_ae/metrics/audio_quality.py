"""Quality of a reconstruction, one value per item."""

import torch
import torch.nn.functional as F
from torch import Tensor

_LIMIT = 1e-10  # of either power, relative to the reconstruction's: 100 dB


def si_sdr_db(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, arXiv:1811.02508) in dB, higher is better.

    Args:
        reconstruction: (B, C, N).
        target: (B, C, N).

    Returns:
        (M,) the ratio of every channel that is not silent in the target, for which alone it is defined; M <= B C. It
        is kept within 100 dB of 0, where a perfect or a silent reconstruction would have an infinite one.
    """
    audible = target.abs().amax(dim=-1) > 0
    # Both of unit length, so that the level makes no difference. torchmetrics adds a constant to each power instead,
    # which weighs on quiet audio and gives a silent reconstruction 0 dB.
    found, wanted = (F.normalize(audio[audible].float(), dim=-1) for audio in (reconstruction, target))
    share = (found * wanted).sum(dim=-1, keepdim=True)
    distortion = (found - share * wanted).square().sum(dim=-1)
    silent = found.abs().amax(dim=-1) == 0
    signal = share.squeeze(-1).square()
    return 10 * torch.log10((signal + _LIMIT) / (torch.where(silent, 1.0, distortion) + _LIMIT))
