"""Validation clips to listen to and to look at. Axes: C audio channels, N samples."""

import functools
from typing import Any, NamedTuple, cast

import lightning.pytorch as pl
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from discrete_ae.checks import positive, whole_number
from discrete_ae.data import AudioDataModule
from discrete_ae.metrics.spectrogram import HEIGHT, LEVELS_DB, WIDTH, levels_db, mel
from discrete_ae.training.logger import RunLogger
from discrete_ae.training.module import AutoencoderModule

SHADES = 64  # of 1.25 dB; more take a PNG twice as long and show nothing more
COLORS = (colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3] * 255).round().astype(np.uint8)
ACROSS, UP = 1, 2  # pixels of a level
LEFT, RIGHT, TOP, BOTTOM = 60, 80, 10, 45  # pixels around the levels, for the axes
TICKS_KHZ = (0.2, 0.5, 1, 2, 4, 8, 16)


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
        picture = draw_log_mel(mono, sample_rate)
        logger.experiment.add_image(f"log_mel/{name}", picture, step, dataformats="HWC")


def draw_log_mel(audio: Tensor, sample_rate: int) -> NDArray[np.uint8]:
    """Picture of the log-mel spectrogram of audio (N,), (height, width, 3), as on the page of a comparison, with axes.

    Only the levels are drawn anew: what surrounds them is the same for all clips of one length.
    """
    low, high = LEVELS_DB
    shares = (levels_db(audio.numpy(), sample_rate) - low) / (high - low)
    shades = (shares * SHADES).clip(0, SHADES - 1).astype(np.uint8)
    frame = _frame(len(audio), sample_rate)
    picture = frame.pixels.copy()
    picture[frame.inside] = COLORS[shades[::-1].repeat(UP, axis=0).repeat(ACROSS, axis=1)]
    return picture


class _Frame(NamedTuple):
    """What surrounds the levels."""

    pixels: NDArray[np.uint8]
    """(height, width, 3)"""
    inside: tuple[slice, slice]
    """Where the levels go."""


@functools.lru_cache(maxsize=16)
def _frame(num_samples: int, sample_rate: int) -> _Frame:
    """Axes in s and kHz, and the scale of colors in dB."""
    height, width = UP * HEIGHT, ACROSS * WIDTH
    total_height, total_width = TOP + height + BOTTOM, LEFT + width + RIGHT

    def rectangle(left: float, right: float) -> tuple[float, float, float, float]:
        return left / total_width, BOTTOM / total_height, (right - left) / total_width, height / total_height

    figure = Figure(figsize=(total_width / 100, total_height / 100), dpi=100)
    axes = figure.add_axes(rectangle(LEFT, LEFT + width))
    top_khz = sample_rate / 2000
    ticks = [khz for khz in TICKS_KHZ if khz <= top_khz]
    axes.set(
        xlim=(0, num_samples / sample_rate), ylim=(0, mel(1000 * top_khz)), xlabel="time in s", ylabel="kHz, mel scale"
    )
    axes.set_yticks([mel(1000 * khz) for khz in ticks], [f"{khz:g}" for khz in ticks])
    beside = figure.add_axes(rectangle(LEFT + width + 10, LEFT + width + 22))
    figure.colorbar(ScalarMappable(Normalize(*LEVELS_DB), "magma"), cax=beside, label="dB full scale")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return _Frame(pixels, (slice(TOP, TOP + height), slice(LEFT, LEFT + width)))
