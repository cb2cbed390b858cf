"""Learning rate schedules."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from discrete_ae.checks import in_unit_interval, whole_number


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup_steps: int, final_share: float = 0.0) -> LambdaLR:
    """Rise linearly over `warmup_steps`, then fall along half a cosine to `final_share` of the peak at `total_steps`.

    Args:
        optimizer: optimizer, whose learning rate is the peak.
        total_steps: number of steps of the run. Below 1, the run has no end and stays at the peak after warm-up.
        warmup_steps: number of warm-up steps, 0 or more.
        final_share: final learning rate divided by the peak, in [0, 1].

    Raises:
        ValueError: `warmup_steps` is negative or `final_share` is outside [0, 1].
    """
    whole_number("scheduler.warmup_steps", warmup_steps, 0)
    in_unit_interval("scheduler.final_share", final_share)

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if total_steps <= warmup_steps:
            return 1.0
        progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        return final_share + (1 - final_share) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, share)
