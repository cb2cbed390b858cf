"""Fills TensorBoard's HPARAMS tab."""

from collections.abc import Mapping

import lightning.pytorch as pl

from discrete_ae.training.logger import RunLogger

METRICS = {
    "hparam/reconstruction": "val/reconstruction",
    "hparam/si_sdr_db": "val/si_sdr_db",
    "hparam/usage": "val/codes/usage",
    "hparam/perplexity": "val/codes/perplexity",
    "hparam/bitrate_bps": "val/codes/bitrate_bps",
}


class LogHyperparameters(pl.Callback):
    """Logs the hyperparameters with the first validation's metrics, and the metrics again with every validation.

    TensorBoard shows only metrics that came with the first record of hyperparameters, so that record waits for real
    values.

    Args:
        hyperparameters: flat: numbers, strings, booleans.
    """

    def __init__(self, hyperparameters: Mapping[str, str | float | bool]) -> None:
        self.hyperparameters = dict(hyperparameters)
        self.recorded = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        found = trainer.callback_metrics
        metrics = {tag: found[source].item() for tag, source in METRICS.items() if source in found}
        for logger in trainer.loggers:
            if not isinstance(logger, RunLogger):
                continue
            if self.recorded:
                logger.log_metrics(metrics, step=trainer.global_step)
            else:
                logger.log_hyperparams(self.hyperparameters, metrics, step=trainer.global_step)
        self.recorded = True
