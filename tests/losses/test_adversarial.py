"""The least-squares game by hand, with discriminators of known scores; shapes and reach of the real ones."""

import functools
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from discrete_ae.losses import Adversary, MultiBandSTFTDiscriminator, MultiPeriodDiscriminator
from tests.losses.noise import noise

WEIGHTS = {"adversarial": 1.0, "feature_matching": 2.0}
PERIODS, WINDOWS = (2, 3, 5, 7, 11), (512, 128)


class Stub(nn.Module):
    """One part: a feature that is `gain` times the audio, and a score that is its mean."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        feature = self.gain * audio
        return [[feature, feature.mean(dim=(1, 2))]]


def constant(*values: float) -> Tensor:
    """Items (B, 1, 4), each of one value."""
    return torch.tensor(values)[:, None, None].expand(-1, 1, 4).clone()


def small() -> Adversary:
    torch.default_generator.manual_seed(0)
    periods, bands = MultiPeriodDiscriminator([2, 3], width=2), MultiBandSTFTDiscriminator([128, 64], width=4)
    return Adversary({"periods": periods, "bands": bands}, WEIGHTS)


def test_discriminator_loss_by_hand() -> None:
    adversary = Adversary({"one": Stub(1.0), "weak": Stub(0.5)}, WEIGHTS)
    # Scores of the target 1 and 2, of the reconstruction 0 and 4; half of that from the other.
    one = ((1 - 1) ** 2 + (1 - 2) ** 2) / 2 + (0**2 + 4**2) / 2
    weak = ((1 - 0.5) ** 2 + (1 - 1) ** 2) / 2 + (0**2 + 2**2) / 2
    assert adversary.discriminator_loss(constant(0.0, 4.0), constant(1.0, 2.0)).item() == (one + weak) / 2


def test_generator_terms_by_hand() -> None:
    adversary = Adversary({"one": Stub(1.0), "weak": Stub(0.5)}, WEIGHTS)
    terms = adversary.generator_terms(constant(0.0, 4.0), constant(1.0, 2.0))
    one, weak = ((1 - 0) ** 2 + (1 - 4) ** 2) / 2, ((1 - 0) ** 2 + (1 - 2) ** 2) / 2
    assert terms["adversarial"].item() == (one + weak) / 2
    # Features differ by 1 and 2, mean 1.5, of a mean size of 1.5; a gain makes no difference.
    assert terms["feature_matching"].item() == pytest.approx(1)


def test_ideal_scores_have_no_loss_and_chance_has_one_half() -> None:
    adversary = Adversary({"one": Stub(1.0)}, WEIGHTS)
    assert adversary.discriminator_loss(constant(0.0), constant(1.0)) == 0
    assert adversary.discriminator_loss(constant(0.5), constant(0.5)) == 0.5
    assert adversary.generator_terms(constant(1.0), constant(1.0)) == {"adversarial": 0, "feature_matching": 0}


def test_discriminators_learn_by_their_loss_alone_and_the_autoencoder_by_the_terms_alone() -> None:
    adversary = small()
    reconstruction, target = noise(2, 1, 700).requires_grad_(), noise(2, 1, 700, seed=1).requires_grad_()
    terms = adversary.generator_terms(reconstruction, target)
    for term in terms.values():
        (gradient,) = torch.autograd.grad(term, reconstruction, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in adversary.parameters())
    assert all(parameter.requires_grad for parameter in adversary.parameters())
    assert target.grad is None

    reconstruction.grad = None
    adversary.discriminator_loss(reconstruction, target.detach()).backward()
    assert reconstruction.grad is None
    assert all(parameter.grad.isfinite().all() for parameter in adversary.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in adversary.parameters())


def test_the_autoencoder_may_go_back_after_the_discriminators_step() -> None:
    adversary, target = small(), noise(2, 1, 700, seed=1)
    reconstruction = noise(2, 1, 700).requires_grad_()
    optimizer = torch.optim.SGD(adversary.parameters(), lr=0.1)
    terms = adversary.generator_terms(reconstruction, target)
    (expected,) = torch.autograd.grad(sum(terms.values()), reconstruction, retain_graph=True)
    adversary.discriminator_loss(reconstruction, target).backward()
    optimizer.step()
    (gradient,) = torch.autograd.grad(sum(terms.values()), reconstruction)
    assert torch.equal(gradient, expected)


def test_losses_are_float32_under_autocast() -> None:
    adversary = small()
    reconstruction, target = noise(2, 1, 700).bfloat16(), noise(2, 1, 700, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        values = [adversary.discriminator_loss(reconstruction, target)]
        values += adversary.generator_terms(reconstruction, target).values()
    assert all(value.dtype == torch.float32 for value in values)
    exact = [adversary.discriminator_loss(reconstruction, target)]
    exact += adversary.generator_terms(reconstruction, target).values()
    torch.testing.assert_close(values, exact, rtol=0.05, atol=0.01)  # bfloat16 has 3 digits


periods = functools.partial(MultiPeriodDiscriminator, PERIODS, width=2)
bands = functools.partial(MultiBandSTFTDiscriminator, WINDOWS, width=2)
both = pytest.mark.parametrize("make", [periods, bands], ids=["periods", "bands"])


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
def test_channels_are_items_and_no_item_depends_on_the_others(make) -> None:
    network, audio = make(), noise(3, 2, 600)
    for stereo, mono, alone in zip(*map(network, (audio, audio.reshape(6, 1, 600), audio[1:2])), strict=True):
        assert all(torch.equal(found, expected) for found, expected in zip(stereo, mono, strict=True))
        for found, expected in zip(stereo, alone, strict=True):
            torch.testing.assert_close(found[2:4], expected, rtol=1e-4, atol=1e-6)


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
def test_weights_are_normalized(make) -> None:
    convolutions = [module for module in make().modules() if isinstance(module, nn.Conv2d)]
    assert convolutions
    for convolution in convolutions:
        gain = convolution.parametrizations.weight.original0
        # weight = g v / |v|: the norm over all but the outputs is g, also of a v that is made longer.
        with torch.no_grad():
            convolution.parametrizations.weight.original1.mul_(7)
        torch.testing.assert_close(convolution.weight.flatten(1).norm(dim=1), gain.flatten().abs())


def adversary(**changed) -> Adversary:
    return Adversary(**{"discriminators": {"one": Stub(1.0)}, "weights": WEIGHTS} | changed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adversary(discriminators={}), "^discriminators: expected at least one"),
        (lambda: adversary(weights={"adversarial": 1.0}), r"^weights: expected one for each of \['adversarial', 'f"),
        (lambda: adversary(weights=WEIGHTS | {"adversarial": 0.0}), "^weights.adversarial: expected .* got 0.0"),
        (lambda: adversary(begin_step=-1), "^begin_step: expected .* got -1"),
        (lambda: MultiPeriodDiscriminator([]), "^periods: expected at least one"),
        (lambda: MultiPeriodDiscriminator([0]), "^periods: expected .* got 0"),
        (lambda: MultiPeriodDiscriminator(width=0), "^width: expected .* got 0"),
        (lambda: MultiBandSTFTDiscriminator([]), "^window_lengths: expected at least one"),
        (lambda: MultiBandSTFTDiscriminator(width=1.5), "^width: expected .* got 1.5"),
        (lambda: MultiBandSTFTDiscriminator([8]), r"^bands: expected .*hold a bin, got \[0.0, 0.1\] for the 5 bins"),
        (lambda: MultiBandSTFTDiscriminator(bands=[(0.5, 1.5)]), r"^bands: expected .* got \[0.5, 1.5\]"),
        (lambda: MultiBandSTFTDiscriminator(bands=[(0.5, 0.2)]), r"^bands: expected .* got \[0.5, 0.2\]"),
    ],
)
def test_wrong_arguments_are_refused_by_name(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
