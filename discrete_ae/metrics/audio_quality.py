"""Quality of a reconstruction, one value per item."""

from torch import Tensor
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio


def si_sdr_db(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, arXiv:1811.02508) in dB, higher is better.

    Args:
        reconstruction: (B, C, N).
        target: (B, C, N).

    Returns:
        (M,) the ratio of every channel that is not silent in the target, for which alone it is defined; M <= B C.
    """
    audible = target.abs().amax(dim=-1) > 0
    return scale_invariant_signal_distortion_ratio(reconstruction[audible].float(), target[audible].float())
