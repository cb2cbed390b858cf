"""Use of codebooks over all processes of a run."""

from collections.abc import Sequence

from torchmetrics import Metric

from discrete_ae.metrics import CodeUsage


class SharedCodeUsage(CodeUsage, Metric):
    """CodeUsage as a metric of torchmetrics: on the module's device, with the counts of all ranks added up.

    CodeUsage itself does not use torchmetrics: evaluations do not need it, and importing it takes longer than torch.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        Metric.__init__(self)
        counted = CodeUsage(codebook_sizes)
        self.codebook_sizes = counted.codebook_sizes
        self.add_state("counts", counted.counts, dist_reduce_fx="sum")
