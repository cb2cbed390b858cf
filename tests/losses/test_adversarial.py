"""The least-squares game by hand, with discriminators of known scores; shapes and reach of the real ones."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from discrete_ae.losses import Adversary, MultiBandSTFTDiscriminator, MultiPeriodDiscriminator
from tests.losses.noise import noise

WEIGHTS = {"adversarial": 1.0, "feature_matching": 2.0}


class Stub(nn.Module):
    """One part: a feature that is `gain` times the audio, and a score that is its mean."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        feature = self.gain * audio
        return [[feature, feature.mean(dim=(1, 2))]]


def test_both_sides_by_hand() -> None:
    adversary = Adversary({"one": Stub(1.0), "weak": Stub(0.5)}, WEIGHTS)
    reconstruction, target = (torch.tensor(v)[:, None, None].expand(-1, 1, 4) for v in ([0.0, 4.0], [1.0, 2.0]))
    # Scores of the target 1 and 2, of the reconstruction 0 and 4; half of that from the other.
    one = ((1 - 1) ** 2 + (1 - 2) ** 2) / 2 + (0**2 + 4**2) / 2
    weak = ((1 - 0.5) ** 2 + (1 - 1) ** 2) / 2 + (0**2 + 2**2) / 2
    assert adversary.discriminator_loss(reconstruction, target).item() == (one + weak) / 2
    terms = adversary.generator_terms(reconstruction, target)
    one, weak = ((1 - 0) ** 2 + (1 - 4) ** 2) / 2, ((1 - 0) ** 2 + (1 - 2) ** 2) / 2
    assert terms["adversarial"].item() == (one + weak) / 2
    # Features differ by 1 and 2, mean 1.5, of a mean size of 1.5; a gain makes no difference.
    assert terms["feature_matching"].item() == pytest.approx(1)


def test_sums_and_absolute_distances_by_hand() -> None:
    adversary = Adversary({"one": Stub(1.0), "weak": Stub(0.5)}, WEIGHTS, summed=True)
    reconstruction, target = (torch.tensor(v)[:, None, None].expand(-1, 1, 4) for v in ([0.0, 4.0], [1.0, 2.0]))
    terms = adversary.generator_terms(reconstruction, target)
    assert terms["adversarial"].item() == ((1 - 0) ** 2 + (1 - 4) ** 2) / 2 + ((1 - 0) ** 2 + (1 - 2) ** 2) / 2
    assert terms["feature_matching"].item() == 1.5 + 0.75


@pytest.fixture
def small() -> Adversary:
    torch.default_generator.manual_seed(0)
    periods, bands = MultiPeriodDiscriminator([2, 3], width=2), MultiBandSTFTDiscriminator([128, 64], width=4)
    return Adversary({"periods": periods, "bands": bands}, WEIGHTS)


def test_either_side_learns_by_its_own_loss_alone(small: Adversary) -> None:
    reconstruction, target = noise(2, 1, 700).requires_grad_(), noise(2, 1, 700, seed=1).requires_grad_()
    terms = small.generator_terms(reconstruction, target)
    gradients = [torch.autograd.grad(term, reconstruction, retain_graph=True)[0] for term in terms.values()]
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    sum(terms.values()).backward(retain_graph=True)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in small.parameters())
    assert target.grad is None

    reconstruction.grad = None
    small.discriminator_loss(reconstruction, target.detach()).backward()
    assert reconstruction.grad is None
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in small.parameters())
    # The autoencoder may go back after the discriminators' step.
    torch.optim.SGD(small.parameters(), lr=0.1).step()
    (after,) = torch.autograd.grad(sum(terms.values()), reconstruction)
    torch.testing.assert_close(after, sum(gradients))


def test_losses_are_float32_under_autocast(small: Adversary) -> None:
    reconstruction, target = noise(2, 1, 700).bfloat16(), noise(2, 1, 700, seed=1)

    def losses() -> list[Tensor]:
        terms = small.generator_terms(reconstruction, target)
        return [small.discriminator_loss(reconstruction, target), *terms.values()]

    with torch.autocast("cpu", torch.bfloat16):
        values = losses()
    assert all(value.dtype == torch.float32 for value in values)
    torch.testing.assert_close(values, losses(), rtol=0.05, atol=0.01)  # bfloat16 has 3 digits


@pytest.mark.parametrize("num_samples", [1, 11, 4000])
def test_maps_of_periods_have_a_third_of_the_rows_layer_by_layer(num_samples: int) -> None:
    periods = (2, 3, 11)
    for period, maps in zip(periods, MultiPeriodDiscriminator(periods, width=2)(noise(2, 1, num_samples)), strict=True):
        rows, expected = -(-num_samples // period), []
        for channels in (2, 8, 32, 64):
            rows = -(-rows // 3)  # a kernel of 5 with 2 on either side: every third row has one
            expected.append((2, channels, rows, period))
        assert [tuple(found.shape) for found in maps] == [*expected, (2, 64, rows, period), (2, 1, rows, period)]


@pytest.mark.parametrize("num_samples", [1, 511, 4000])
def test_maps_of_bands_have_half_the_bins_layer_by_layer_of_every_bin_once(num_samples: int) -> None:
    windows = (512, 128)
    network = MultiBandSTFTDiscriminator(windows, width=2)
    for window, part, maps in zip(windows, network.parts, network(noise(2, 1, num_samples)), strict=True):
        assert [n for first, end in part.edges for n in range(first, end)] == list(range(window // 2 + 1))
        frames = 1 + max(num_samples, window) // (window // 4)
        edges = [round(share * (window // 2 + 1)) for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
        expected, joined = [], 0
        for low, high in pairwise(edges):
            bins = [high - low]
            for _ in range(3):
                bins.append(-(-bins[-1] // 2))
            expected += [(2, 2, frames, count) for count in (*bins, bins[-1])]
            joined += bins[-1]
        assert [tuple(found.shape) for found in maps] == [*expected, (2, 1, frames, joined)]


def test_channels_are_items_and_no_item_depends_on_the_others(small: Adversary) -> None:
    audio = noise(3, 2, 600)
    parts = map(small.discriminators, (audio, audio.reshape(6, 1, 600), audio[1:2]))
    for stereo, mono, alone in zip(*parts, strict=True):
        assert all(torch.equal(found, expected) for found, expected in zip(stereo, mono, strict=True))
        for found, expected in zip(stereo, alone, strict=True):
            torch.testing.assert_close(found[2:4], expected, rtol=1e-4, atol=1e-6)


def test_layers_of_a_period_look_at_samples_a_period_apart() -> None:
    (network,) = MultiPeriodDiscriminator([5], width=1).parts
    audio, column, row = noise(1, 400).requires_grad_(), 3, 4
    maps = network(audio)
    for layer, reach in ((0, 5), (1, 5 + 4 * 3)):  # a kernel of 5, then 4 more taps 3 rows apart
        (gradient,) = torch.autograd.grad(maps[layer][0, :, row, column].sum(), audio, retain_graph=True)
        middle = row * 3 ** (layer + 1)  # of the audio's rows
        rows = range(middle - reach // 2, middle + reach // 2 + 1)
        assert gradient[0].nonzero()[:, 0].tolist() == [5 * row + column for row in rows]


def adversary(**changed) -> Adversary:
    return Adversary(**{"discriminators": {"one": Stub(1.0)}, "weights": WEIGHTS} | changed)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (adversary, {"discriminators": {}}, "^discriminators: expected at least one"),
        (adversary, {"weights": {"adversarial": 1.0}}, r"^weights: expected one for each of \['adversarial', 'f"),
        (adversary, {"weights": WEIGHTS | {"adversarial": 0.0}}, "^weights.adversarial: expected .* got 0.0"),
        (adversary, {"begin_step": -1}, "^begin_step: expected .* got -1"),
        (MultiPeriodDiscriminator, {"periods": []}, "^periods: expected at least one"),
        (MultiPeriodDiscriminator, {"periods": [0]}, "^periods: expected .* got 0"),
        (MultiPeriodDiscriminator, {"width": 0}, "^width: expected .* got 0"),
        (MultiBandSTFTDiscriminator, {"window_lengths": []}, "^window_lengths: expected at least one"),
        (MultiBandSTFTDiscriminator, {"window_lengths": [8]}, r"^bands: expected .*a bin, got \[0.0, 0.1\] for"),
        (MultiBandSTFTDiscriminator, {"bands": [(0.5, 1.5)]}, r"^bands: expected .* got \[0.5, 1.5\]"),
        (MultiBandSTFTDiscriminator, {"bands": [(0.5, 0.2)]}, r"^bands: expected .* got \[0.5, 0.2\]"),
    ],
)
def test_wrong_arguments_are_refused_by_name(make, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)
