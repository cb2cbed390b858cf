"""Warns when a quantizer stops using its codebooks."""

import logging

import lightning.pytorch as pl

from discrete_ae.training.module import AutoencoderModule

log = logging.getLogger(__name__)


class WarnOfCollapse(pl.Callback):
    """Warns after a validation whose perplexity is below a share of the codebook size.

    Args:
        min_share: of the mean codebook size, in [0, 1].
        after_steps: an untrained network is not warned of.
    """

    def __init__(self, min_share: float = 0.05, after_steps: int = 100) -> None:
        if not 0 <= min_share <= 1:
            raise ValueError(f"min_share: expected 0 to 1, got {min_share}")
        self.min_share = min_share
        self.after_steps = after_steps

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        assert isinstance(pl_module, AutoencoderModule)
        perplexity = trainer.callback_metrics.get("val/codes/perplexity")
        if perplexity is None or trainer.global_step < self.after_steps or not trainer.is_global_zero:
            return
        sizes = pl_module.model.quantizer.codebook_sizes
        needed = self.min_share * sum(sizes) / len(sizes)
        if perplexity < needed:
            log.warning(
                "step %d: the codes are collapsing: perplexity %.1f of %d entries, below %.1f; "
                "lower optim.optimizer.lr or try another quantizer",
                trainer.global_step,
                perplexity,
                max(sizes),
                needed,
            )
