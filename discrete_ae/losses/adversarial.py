"""Adversarial training: audio discriminators, their loss, and two loss terms for the autoencoder.

The losses are least-squares (Mao et al. 2016, arXiv:1611.04076) with feature matching, as in HiFi-GAN
(arXiv:2010.05646, section 2.3). The distance of features is relative to their size, as in EnCodec (arXiv:2210.13438,
equation 2). Differences from these papers and from DAC (arXiv:2306.06546):

- Means over discriminators and layers instead of sums: a weight means the same for any number of discriminators.
  `summed` gives the sums, and the absolute distances, of HiFi-GAN and DAC.
- The audio is judged at its own level. DAC's code removes the mean of each signal and scales its peak to 0.8, real and
  reconstructed each by its own. Discriminators then cannot hear a wrong level, and in silence they hear noise of any
  level at full scale. `data.loudness_lufs` levels recordings instead.
- Periods are padded with silence (HiFi-GAN and DAC: by reflection).

A discriminator maps audio (B, C, N) of any length to a list with an entry for each of its parts. An entry is a list of
feature maps; the last map is the score, of any shape. Channels are judged as separate items. The items of a batch do
not interact, so a batch may be judged in pieces.

Axes: B batch, C audio channels, N samples, T frames, F bins.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

from discrete_ae.checks import positive, whole_number
from discrete_ae.losses.stft import FramedDFT

TERMS = ("adversarial", "feature_matching")
_FLOOR = 1e-5  # minimum size of features to divide by, for a layer of zeros


class Adversary(nn.Module):
    """Discriminators, their loss, and the loss terms for the autoencoder.

    Networks run under the caller's autocast; losses are float32.

    Args:
        discriminators: modules by name; entries that are None are ignored.
        weights: weights of the terms `adversarial` and `feature_matching`, above 0.
        begin_step: optimizer step at which adversarial training starts; before it, the autoencoder trains alone.
        summed: True for terms that are sums over discriminators and layers, with absolute distances of features, as in
            DAC's code; False for means, with relative distances. The discriminators' own loss is always a mean.

    Raises:
        ValueError: if there is no discriminator, `weights` has other names, or a number is outside its range.
    """

    def __init__(
        self,
        discriminators: Mapping[str, nn.Module | None],
        weights: Mapping[str, float],
        begin_step: int = 0,
        summed: bool = False,
    ) -> None:
        super().__init__()
        present = {name: module for name, module in discriminators.items() if module is not None}
        if not present:
            raise ValueError(
                "discriminators: expected at least one, got none; set loss.adversary=null to train without them"
            )
        if set(weights) != set(TERMS):
            raise ValueError(f"weights: expected one for each of {sorted(TERMS)}, got {sorted(weights)}")
        self.discriminators = _Discriminators(present)
        self.weights = {name: positive(f"weights.{name}", weights[name]) for name in TERMS}
        self.begin_step = whole_number("begin_step", begin_step, 0)
        self.summed = summed
        self.distance = F.l1_loss if summed else _relative_distance

    def discriminator_loss(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over discriminators of mean (1 - score of target)^2 + mean (score of reconstruction)^2.

        A score of 1 means real, 0 reconstructed. The loss is 0 for a perfect discriminator, and 1/2 at chance level.
        Its gradient goes to the discriminators, never to the reconstruction (B, C, N).
        """
        outputs = self.discriminators(torch.cat([target.float(), reconstruction.detach().float()]))
        scores = [maps[-1].float().chunk(2) for maps in outputs]
        losses = [(1 - real).square().mean() + fake.square().mean() for real, fake in scores]
        return torch.stack(losses).mean()

    def generator_terms(self, reconstruction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the terms `adversarial` and `feature_matching`, scalars of at least 0.

        adversarial: mean over discriminators of mean (1 - score of reconstruction)^2.
        feature_matching: mean over discriminators and their layers, except scores, of the mean absolute difference of
            features divided by the mean absolute feature of the target.
        With `summed`, both are sums, and differences are not divided.

        The gradient goes to the reconstruction (B, C, N), never to the discriminators' parameters.
        """
        with torch.no_grad():
            wanted = self.discriminators(target.float())
        constants = {name: parameter.detach() for name, parameter in self.discriminators.named_parameters()}
        found = functional_call(self.discriminators, constants, reconstruction.float())
        scores = [(1 - maps[-1].float()).square().mean() for maps in found]
        distances = [
            self._total(self.distance(a.float(), b.float()) for a, b in zip(maps[:-1], goals[:-1], strict=True))
            for maps, goals in zip(found, wanted, strict=True)
        ]
        return {"adversarial": self._total(scores), "feature_matching": self._total(distances)}

    def _total(self, values: Iterable[Tensor]) -> Tensor:
        stacked = torch.stack(list(values))
        return stacked.sum() if self.summed else stacked.mean()


class _Discriminators(nn.ModuleDict):
    """Discriminators by name that judge the same audio."""

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """Return the feature maps of every part of every discriminator for audio (B, C, N)."""
        return [maps for discriminator in self.values() for maps in discriminator(audio)]


def _relative_distance(found: Tensor, wanted: Tensor) -> Tensor:
    return (found - wanted).abs().mean() / wanted.abs().mean().clamp_min(_FLOOR)


class MultiPeriodDiscriminator(nn.Module):
    """Discriminator of the waveform: it is cut into rows of `period` samples, and convolved along the columns.

    Kong et al. 2020 (HiFi-GAN, arXiv:2010.05646, section 2.3 and appendix A.2). The last row is padded with silence.

    Args:
        periods: lengths of the rows in samples; the discriminator has a part for each length.
        width: number of channels of the first layer; the other layers have 4, 16, 32 and 32 times as many.

    Raises:
        ValueError: if there is no period, or for a number below 1.
    """

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), width: int = 32) -> None:
        super().__init__()
        if not periods:
            raise ValueError("periods: expected at least one, got none")
        width = whole_number("width", width, 1)
        self.parts = nn.ModuleList(_RowsOfOnePeriod(whole_number("periods", period, 1), width) for period in periods)

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """Return feature maps (B C, channels, rows, period) of audio (B, C, N) per period; the score has 1 channel."""
        items = audio.flatten(0, 1)
        return [part(items) for part in self.parts]


class _RowsOfOnePeriod(nn.Module):
    """Layers for the waveform in rows of one length."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        channels = [1, width, 4 * width, 16 * width, 32 * width]
        strided = [_conv(*pair, (5, 1), (3, 1)) for pair in pairwise(channels)]
        self.layers = nn.ModuleList([*strided, _conv(channels[-1], channels[-1], (5, 1))])
        self.score = _conv(channels[-1], 1, (3, 1))

    def forward(self, items: Tensor) -> list[Tensor]:
        rows = F.pad(items, (0, -items.shape[-1] % self.period)).unflatten(-1, (-1, self.period))
        maps = _features(self.layers, rows[:, None], slope=0.1)
        return [*maps, self.score(maps[-1])]


class MultiBandSTFTDiscriminator(nn.Module):
    """Discriminator of complex spectrograms at several window lengths, with separate layers for each frequency band.

    Kumar et al. 2023 (DAC, arXiv:2306.06546, section 3.4): real and imaginary parts are two channels. The maps of all
    bands are concatenated for the score.

    Args:
        window_lengths: window lengths in samples; the discriminator has a part for each. Shorter audio is padded with
            silence.
        bands: frequency bands (from, to), as shares of half the sample rate.
        width: number of channels of every layer.

    Raises:
        ValueError: if there is no window length, for a band outside [0, 1] or without a bin, or a width below 1.
    """

    def __init__(
        self,
        window_lengths: Sequence[int] = (2048, 1024, 512),
        bands: Sequence[Sequence[float]] = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)),
        width: int = 32,
    ) -> None:
        super().__init__()
        if not window_lengths:
            raise ValueError("window_lengths: expected at least one, got none")
        width = whole_number("width", width, 1)
        self.parts = nn.ModuleList(_BandsOfOneWindow(length, bands, width) for length in window_lengths)

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """Return feature maps (B C, width, T, bins) and a score (B C, 1, T, bins) of audio (B, C, N) per window length.

        The feature maps are those of the layers of all bands.
        """
        items = audio.flatten(0, 1)
        return [part(items) for part in self.parts]


class _BandsOfOneWindow(nn.Module):
    """Layers for each band of one spectrogram."""

    def __init__(self, window_length: int, bands: Sequence[Sequence[float]], width: int) -> None:
        super().__init__()
        self.spectra = FramedDFT(window_length, is_normalized=True)
        num_bins = window_length // 2 + 1
        self.edges = [(round(low * num_bins), round(high * num_bins)) for low, high in bands]
        for band, (first, end) in zip(bands, self.edges, strict=True):
            if not 0 <= first < end <= num_bins:
                raise ValueError(
                    f"bands: expected shares 0 <= from < to <= 1 that include a bin, got {list(band)} "
                    f"for the {num_bins} bins of window length {window_length}"
                )
        self.bands = nn.ModuleList(nn.ModuleList(_band_layers(width)) for _ in self.edges)
        self.score = _conv(width, 1, (3, 3))

    def forward(self, items: Tensor) -> list[Tensor]:
        with torch.autocast(items.device.type, enabled=False):
            channels = torch.view_as_real(self.spectra(items.float())).permute(0, 3, 1, 2)  # (B C, 2, T, F)
        maps, last = [], []
        for (first, end), layers in zip(self.edges, self.bands, strict=True):
            of_band = _features(layers.children(), channels[..., first:end], slope=0.2)
            maps += of_band
            last.append(of_band[-1])
        return [*maps, self.score(torch.cat(last, dim=-1))]


def _band_layers(width: int) -> list[nn.Module]:
    strided = [_conv(width, width, (3, 9), (1, 2)) for _ in range(3)]
    return [_conv(2, width, (3, 9)), *strided, _conv(width, width, (3, 3))]


def _features(layers: Iterable[nn.Module], x: Tensor, slope: float) -> list[Tensor]:
    """Return the activated outputs of all layers, applied one after the other."""
    maps = []
    for layer in layers:
        x = F.leaky_relu(layer(x), slope)
        maps.append(x)
    return maps


def _conv(channels_in: int, channels_out: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Module:
    """Return a convolution with weight normalization, padded for odd kernels so that only the stride changes sizes."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return weight_norm(nn.Conv2d(channels_in, channels_out, kernel, stride, padding))
