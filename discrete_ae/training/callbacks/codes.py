"""Histograms of code use."""

import lightning.pytorch as pl
import torch

from discrete_ae.training.logger import RunLogger
from discrete_ae.training.module import AutoencoderModule


class LogCodeHistograms(pl.Callback):
    """Logs how often every entry of every codebook was used over the validation set, all ranks together."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback; runs on every rank, since the counts of all ranks are added."""
        assert isinstance(pl_module, AutoencoderModule)
        usage = pl_module.validation_usage
        if usage is None:
            return
        with usage.sync_context(should_sync=trainer.world_size > 1):
            counts = usage.counts.cpu()
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if not isinstance(logger, RunLogger):
                continue
            for k, (size, of_codebook) in enumerate(zip(usage.codebook_sizes, counts, strict=True)):
                entries = torch.arange(size)
                # One bin an entry, from entry - 1/2 to entry + 1/2; the counts are given, not sampled again.
                logger.experiment.add_histogram_raw(
                    f"val_codes/codebook_{k}",
                    min=0,
                    max=size - 1,
                    num=int(of_codebook.sum()),
                    sum=float((entries * of_codebook[:size]).sum()),
                    sum_squares=float((entries**2 * of_codebook[:size]).sum()),
                    bucket_limits=(entries + 0.5).tolist(),
                    bucket_counts=of_codebook[:size].tolist(),
                    global_step=trainer.global_step,
                )
