"""AudioData for Lightning's trainer."""

import lightning.pytorch as pl

from discrete_ae.data.datamodule import AudioData


class AudioDataModule(AudioData, pl.LightningDataModule):
    """AudioData as a LightningDataModule, with the same arguments."""
