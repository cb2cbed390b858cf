"""Validation clips to listen to and to look at. Axes: C audio channels, N samples."""

from typing import Any, cast

import lightning.pytorch as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from discrete_ae.checks import positive, whole_number
from discrete_ae.data import AudioDataModule
from discrete_ae.metrics.spectrogram import LEVELS_DB, levels_db
from discrete_ae.training.logger import RunLogger
from discrete_ae.training.module import AutoencoderModule


class LogClips(pl.Callback):
    """Logs the same few validation clips at every validation, as audio and as log-mel pictures; the originals once.

    Args:
        count: number of clips, 0 for none.
        max_seconds: length to which a clip is cut.

    Raises:
        ValueError: for a number outside its range.
    """

    def __init__(self, count: int = 4, max_seconds: float = 5.0) -> None:
        self.count = whole_number("count", count, 0)
        self.max_seconds = positive("max_seconds", max_seconds)
        self.clips: list[tuple[str, Tensor]] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See Callback."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, AutoencoderModule)
        first = self.clips is None
        if self.clips is None:
            data: AudioDataModule = cast(Any, trainer).datamodule
            self.clips = data.clips(self.count, self.max_seconds) if self.count else []
        model = pl_module.model
        for name, audio in self.clips:
            with torch.no_grad():
                reconstruction = model(audio[None].to(pl_module.device)).reconstruction[0].float().cpu()
            for logger in trainer.loggers:
                if isinstance(logger, RunLogger):
                    if first:
                        self._log(logger, f"original/{name}", audio, model.sample_rate, trainer.global_step)
                    self._log(logger, f"reconstruction/{name}", reconstruction, model.sample_rate, trainer.global_step)

    @staticmethod
    def _log(logger: RunLogger, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        mono = audio.mean(dim=0)
        logger.experiment.add_audio(f"audio/{name}", mono.clamp(-1, 1), step, sample_rate)
        logger.experiment.add_figure(f"log_mel/{name}", draw_log_mel(mono, sample_rate), step)


def draw_log_mel(audio: Tensor, sample_rate: int) -> Figure:
    """Picture of the log-mel spectrogram of audio (N,), as on the page of a comparison, with axes."""
    levels = levels_db(audio.numpy(), sample_rate)
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    seconds, khz = len(audio) / sample_rate, sample_rate / 2000
    low, high = LEVELS_DB
    image = axes.imshow(
        levels,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, len(levels)),
        vmin=low,
        vmax=high,
        cmap="magma",
    )
    axes.set(xlabel="time in s", ylabel=f"mel band, to {khz:g} kHz")
    figure.colorbar(image, label="dB full scale")
    return figure
