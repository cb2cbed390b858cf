"""Fills TensorBoard's HPARAMS tab."""

from collections.abc import Mapping

import lightning.pytorch as pl

from discrete_ae.training.logger import RunLogger


def hparam_tag(tag: str) -> str:
    """The tag of a validation metric in the HPARAMS tab: val/codes/usage is hparam/usage there."""
    return f"hparam/{tag.rpartition('/')[2]}"


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
        # The gap, which every quantizer with codes has, says the same.
        shown = [tag for tag in found if tag.startswith("val/") and tag != "val/soft_reconstruction"]
        metrics = {hparam_tag(tag): found[tag].item() for tag in shown}
        for logger in trainer.loggers:
            if not isinstance(logger, RunLogger):
                continue
            if self.recorded:
                logger.log_metrics(metrics, step=trainer.global_step)
            else:
                logger.log_hyperparams(self.hyperparameters, metrics, step=trainer.global_step)
        self.recorded = True
