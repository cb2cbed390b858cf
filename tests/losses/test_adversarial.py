"""The least-squares game against hand arithmetic, with discriminators of known scores."""

import math

import pytest
import torch
from torch import Tensor, nn

from discrete_ae.losses import Adversary, MultiBandSTFTDiscriminator, MultiPeriodDiscriminator

WEIGHTS = {"adversarial": 1.0, "feature_matching": 2.0}


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


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


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


def test_what_did_not_learn_before_does_not_after() -> None:
    adversary = small()
    first = next(adversary.parameters()).requires_grad_(False)
    adversary.generator_terms(noise(1, 1, 300), noise(1, 1, 300, seed=1))
    assert [parameter for parameter in adversary.parameters() if not parameter.requires_grad] == [first]


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


def test_equal_inputs_have_equal_features() -> None:
    audio = noise(2, 2, 700)
    assert small().generator_terms(audio.clone(), audio)["feature_matching"] == 0


def test_discriminators_learn_to_tell_a_pair_apart() -> None:
    adversary = small()
    reconstruction, target = noise(4, 1, 700), noise(4, 1, 700, seed=1).cumsum(-1)
    optimizer = torch.optim.Adam(adversary.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = adversary.discriminator_loss(reconstruction, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.5  # scores near 0 at first: a loss of about 1
    assert losses[-1] < 0.5 * losses[0]


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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"discriminators": {}}, "^discriminators: expected at least one"),
        (
            {"weights": {"adversarial": 1.0}},
            r"^weights: expected one for each of \['adversarial', 'feature_matching'\]",
        ),
        ({"weights": WEIGHTS | {"adversarial": 0.0}}, r"^weights.adversarial: expected .* got 0.0"),
        ({"weights": WEIGHTS | {"feature_matching": math.nan}}, r"^weights.feature_matching: expected .* got nan"),
        ({"begin_step": -1}, "^begin_step: expected .* got -1"),
        ({"begin_step": 1.5}, "^begin_step: expected .* got 1.5"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_by_name(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adversary(**{"discriminators": {"one": Stub(1.0)}, "weights": WEIGHTS} | changed)
