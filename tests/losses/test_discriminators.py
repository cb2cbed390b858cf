"""Shapes of the discriminators' maps, and what a sample can reach in them."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from discrete_ae.losses import MultiBandSTFTDiscriminator, MultiPeriodDiscriminator

PERIODS, WINDOWS = (2, 3, 5, 7, 11), (512, 128)


def periods() -> MultiPeriodDiscriminator:
    torch.default_generator.manual_seed(0)
    return MultiPeriodDiscriminator(PERIODS, width=2)


def bands() -> MultiBandSTFTDiscriminator:
    torch.default_generator.manual_seed(0)
    return MultiBandSTFTDiscriminator(WINDOWS, width=2)


both = pytest.mark.parametrize("make", [periods, bands])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_samples", [1, 2, 10, 11, 12, 511, 4000])
def test_maps_of_periods_have_a_third_of_the_rows_layer_by_layer(num_samples: int) -> None:
    outputs = periods()(noise(2, 1, num_samples))
    assert len(outputs) == len(PERIODS)
    for period, maps in zip(PERIODS, outputs, strict=True):
        rows, expected = -(-num_samples // period), []
        for channels in (2, 8, 32, 64):
            rows = -(-rows // 3)  # a kernel of 5 with 2 on either side: every third row has one
            expected.append((2, channels, rows, period))
        assert [tuple(found.shape) for found in maps] == [*expected, (2, 64, rows, period), (2, 1, rows, period)]


@pytest.mark.parametrize("num_samples", [1, 127, 128, 511, 512, 4000])
def test_maps_of_bands_have_half_the_bins_layer_by_layer(num_samples: int) -> None:
    outputs = bands()(noise(2, 1, num_samples))
    assert len(outputs) == len(WINDOWS)
    for window, maps in zip(WINDOWS, outputs, strict=True):
        frames = 1 + max(num_samples, window) // (window // 4)
        edges = [round(share * (window // 2 + 1)) for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
        expected, joined = [], 0
        for low, high in pairwise(edges):
            bins = high - low
            expected.append((2, 2, frames, bins))
            for _ in range(3):
                bins = -(-bins // 2)
                expected.append((2, 2, frames, bins))
            expected.append((2, 2, frames, bins))
            joined += bins
        assert [tuple(found.shape) for found in maps] == [*expected, (2, 1, frames, joined)]


def test_every_bin_is_in_a_band_once() -> None:
    for part in MultiBandSTFTDiscriminator(width=1).parts:
        covered = [n for first, end in part.edges for n in range(first, end)]
        assert covered == list(range(part.spectra.window_length // 2 + 1))


@both
def test_channels_are_items(make) -> None:
    network, audio = make(), noise(3, 2, 600)
    for stereo, mono in zip(network(audio), network(audio.reshape(6, 1, 600)), strict=True):
        assert all(torch.equal(found, expected) for found, expected in zip(stereo, mono, strict=True))


@both
def test_no_item_depends_on_the_others(make) -> None:
    network, audio = make(), noise(3, 1, 600)
    for whole, alone in zip(network(audio), network(audio[1:2]), strict=True):
        for found, expected in zip(whole, alone, strict=True):
            torch.testing.assert_close(found[1:2], expected, rtol=1e-4, atol=1e-6)


def test_layers_of_a_period_look_at_samples_a_period_apart() -> None:
    (network,) = MultiPeriodDiscriminator([5], width=1).parts
    audio = noise(1, 400).requires_grad_()
    maps = network(audio)
    column = 3
    for layer, reach in ((0, 5), (1, 5 + 4 * 3)):  # a kernel of 5, then 4 more taps 3 rows apart
        row = 4  # of the layer's map; its middle is row 3 or 9 times that of the audio's
        (gradient,) = torch.autograd.grad(maps[layer][0, :, row, column].sum(), audio, retain_graph=True)
        touched = gradient[0].nonzero()[:, 0]
        assert (touched % 5 == column).all()
        middle = row * 3 ** (layer + 1)
        rows = range(middle - reach // 2, middle + reach // 2 + 1)
        assert set((touched // 5).tolist()) <= set(rows)
        assert len(touched) == reach


@both
def test_weights_are_normalized_and_the_state_is_restored(make) -> None:
    network, other = make(), make()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert convolutions
    for convolution in convolutions:
        gain = convolution.parametrizations.weight.original0
        # weight = g v / |v|: the norm over all but the outputs is g, also of a v that is made longer.
        with torch.no_grad():
            convolution.parametrizations.weight.original1.mul_(7)
        torch.testing.assert_close(convolution.weight.flatten(1).norm(dim=1), gain.flatten().abs())
    other.load_state_dict(network.state_dict())
    audio = noise(1, 1, 600)
    for found, expected in zip(other(audio), network(audio), strict=True):
        assert torch.equal(found[-1], expected[-1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiPeriodDiscriminator([]), "^periods: expected at least one"),
        (lambda: MultiPeriodDiscriminator([0]), "^periods: expected .* got 0"),
        (lambda: MultiPeriodDiscriminator(width=0), "^width: expected .* got 0"),
        (lambda: MultiBandSTFTDiscriminator([]), "^window_lengths: expected at least one"),
        (lambda: MultiBandSTFTDiscriminator([3]), "^window_lengths: expected at least 4 samples, got 3"),
        (lambda: MultiBandSTFTDiscriminator(width=1.5), "^width: expected .* got 1.5"),
        (lambda: MultiBandSTFTDiscriminator([8]), r"^bands: expected .*hold a bin, got \[0.0, 0.1\] for the 5 bins"),
        (lambda: MultiBandSTFTDiscriminator(bands=[(0.5, 1.5)]), r"^bands: expected .* got \[0.5, 1.5\]"),
        (lambda: MultiBandSTFTDiscriminator(bands=[(0.5, 0.2)]), r"^bands: expected .* got \[0.5, 0.2\]"),
    ],
)
def test_wrong_arguments_are_refused_by_name(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
