"""The layout of TensorBoard's CUSTOM SCALARS tab: what is compared between runs, side by side."""

import lightning.pytorch as pl

from discrete_ae.training.logger import RunLogger

# Category, chart, tags; a tag is a pattern, hence the ends.
LAYOUT = {
    "1 Reconstruction": {
        "reconstruction loss, hard codes": ["val/reconstruction$"],
        "SI-SDR in dB": ["val/si_sdr_db$"],
        "mel distance": ["val/mel$"],
        "soft/hard gap of the loss": ["val/soft_hard_gap$"],
    },
    "2 Codes": {
        "usage": ["val/codes/usage$"],
        "perplexity": ["val/codes/perplexity$"],
        "bitrate of the codes' entropy in bps": ["val/codes/bitrate_bps$"],
    },
    "3 Training": {
        "loss that is optimized": ["train/loss$"],
        "gradient norm before clipping": ["train/gradient_norm$"],
        "learning rate": ["train/learning_rate$"],
    },
}


class LogLayout(pl.Callback):
    """Logs the layout once; where all runs have the same one, TensorBoard draws one chart of all of them."""

    def __init__(self) -> None:
        self.logged = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        if self.logged or not trainer.is_global_zero:
            return
        self.logged = True
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                charts = {
                    category: {title: ["Multiline", tags] for title, tags in of_category.items()}
                    for category, of_category in LAYOUT.items()
                }
                logger.experiment.add_custom_scalars(charts)
