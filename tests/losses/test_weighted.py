"""The weighted sum of named terms, its balancer and its adversary, by hand."""

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_ae.losses import Adversary, LogSNR, LossBalancer, MultiScaleMel, WaveformL1, WeightedLoss
from tests.losses.noise import noise


class Slope(nn.Module):
    """A term whose gradient is `slope` in every sample: of AUDIO, 16 times the slope."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        return self.slope * reconstruction.sum()


class NotToBeComputed(nn.Module):
    def forward(self, *arguments: Tensor) -> Tensor:
        raise AssertionError("a term of weight 0 was computed")


AUDIO = torch.ones(2, 1, 8)
TERMS = {"a": Slope(3 / 16), "b": Slope(5 / 16), "off": NotToBeComputed()}


def test_sum_is_weighted_and_terms_are_not() -> None:
    values = WeightedLoss(TERMS, {"a": 2.0, "b": 0.5, "off": 0})(AUDIO, AUDIO, {})
    assert values.total == values.reconstruction == 2 * 3 + 0.5 * 5
    assert values.terms == {"a": 3.0, "b": 5.0}


def test_quantizers_losses_are_weighted_by_name() -> None:
    weights = {"commitment": 0.25, "code_entropy": -0.5, "kl": 0.0, "not there": 9.0}
    loss = WeightedLoss({"a": TERMS["a"]}, {"a": 2.0}, weights)
    auxiliary = {
        name: torch.tensor(value, requires_grad=True)
        for name, value in {"commitment": 4.0, "code_entropy": 6.0, "kl": float("inf"), "nameless": 7.0}.items()
    }
    values = loss(AUDIO, AUDIO, auxiliary)
    # One without a weight counts once, one below zero is driven up; 0 times infinity would be no number.
    assert values.total == 2 * 3 + 0.25 * 4 - 0.5 * 6 + 7
    assert values.reconstruction == 2 * 3  # the quantizer's losses are no part of it
    assert values.terms == {"a": 3.0, "commitment": 4.0, "code_entropy": 6.0, "nameless": 7.0}
    values.total.backward()
    assert [loss.grad for loss in auxiliary.values()] == [0.25, -0.5, None, 1]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0}, r"one for each of \['a', 'b', 'off'\], got \['a'\]"),
        ({"a": 1.0, "b": 1.0, "off": 0.0, "c": 1.0}, "got .*'c'"),
        ({"a": 1.0, "b": -1.0, "off": 0.0}, "^weights.b: expected.*at least 0, got -1"),
        ({"a": 0.0, "b": 0.0, "off": 0.0}, "one above"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightedLoss(TERMS, weights)


def test_loss_is_float32_under_autocast() -> None:
    terms: dict[str, Any] = {"l1": WaveformL1(), "snr": LogSNR(), "mel": MultiScaleMel(16000, [512], [40])}
    loss = WeightedLoss(terms, dict.fromkeys(terms, 1.0))
    target = noise(2, 1, 4000)
    reconstruction = (target + 0.01 * noise(2, 1, 4000, seed=1)).bfloat16()
    expected = loss(reconstruction.float(), target, {})
    with torch.autocast("cpu", torch.bfloat16):
        # The mel product alone is one that autocast would do in bfloat16, with 3 digits.
        assert (terms["mel"].scales[0].bank @ torch.ones(40, 1)).dtype == torch.bfloat16
        found = loss(reconstruction, target, {})
    assert found.total.dtype == torch.float32
    assert found.total == expected.total
    assert found.terms == expected.terms


def balanced_loss(weights: Mapping[str, float], **arguments: Any) -> WeightedLoss:
    slopes = {"steep": Slope(1000.0), "gentle": Slope(-0.01), "off": NotToBeComputed()}
    balancer = functools.partial(LossBalancer, total_norm=6.0)
    return WeightedLoss({name: slopes[name] for name in weights}, weights, balancer=balancer, **arguments)


def test_balancer_shares_the_gradient_out_by_weights_and_leaves_the_values() -> None:
    loss = balanced_loss({"steep": 1.0, "gentle": 3.0}, quantizer_weights={"commitment": 0.5})
    reconstruction = torch.ones(2, 1, 9, requires_grad=True)
    commitment = reconstruction.mean()
    values = loss(reconstruction, reconstruction.detach(), {"commitment": commitment})
    assert values.reconstruction.item() == pytest.approx(1 * 18000 + 3 * -0.18)
    assert values.total.item() == pytest.approx(18000 - 0.54 + 0.5)
    assert values.terms["gentle"].item() == pytest.approx(-0.18)
    (values.total * 7).backward()  # as a scaler of gradients does
    # Of norm 6, 1/4 up and 3/4 down: -3 over the 9 samples of an item, each -3 / sqrt(9). The quantizer's: 0.5 / 18.
    torch.testing.assert_close(reconstruction.grad, torch.full((2, 1, 9), 7 * (-1.0 + 0.5 / 18)))


def test_balancer_is_not_asked_without_a_gradient() -> None:
    loss = balanced_loss({"steep": 1.0, "gentle": 3.0, "off": 0.0})
    assert loss.balancer.weights == {"steep": 1.0, "gentle": 3.0}
    reconstruction = torch.ones(2, 1, 9, requires_grad=True)
    with torch.no_grad():
        first = loss(reconstruction, AUDIO, {})
    second = loss(reconstruction.detach(), AUDIO, {})
    assert first.total == second.total == first.reconstruction
    assert all(not tensor.any() for tensor in loss.state_dict().values())  # no norm was counted


class Judge(nn.Module):
    """Two feature maps of fixed slope and a score: everything is computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        return [[self.gain * audio, audio, self.gain * audio.mean(dim=(1, 2))]]


def with_adversary(**arguments: Any) -> WeightedLoss:
    adversary = Adversary({"judge": Judge()}, {"adversarial": 3.0, "feature_matching": 5.0})
    return WeightedLoss({"l1": WaveformL1()}, {"l1": 2.0}, adversary=adversary, **arguments)


@pytest.mark.parametrize("balancer", [None, functools.partial(LossBalancer, total_norm=4.0)], ids=["plain", "balanced"])
def test_adversarial_terms_are_in_the_total_and_not_in_the_reconstruction(balancer: Any) -> None:
    reconstruction, target = torch.full((2, 1, 16), 0.25, requires_grad=True), torch.ones(2, 1, 16)
    loss = with_adversary(balancer=balancer)
    # The score is 2 * 0.25; features differ by 3/4 of the target's; so do the samples.
    terms = {"l1": 0.75, "adversarial": 0.25, "feature_matching": 0.75}
    for adversarial, total in ((False, 2 * 0.75), (True, 2 * 0.75 + 3 * 0.25 + 5 * 0.75)):
        values = loss(reconstruction, target, {}, adversarial=adversarial)
        expected = terms if adversarial else {"l1": 0.75}
        assert {name: value.item() for name, value in values.terms.items()} == expected
        assert values.reconstruction == 2 * 0.75
        assert values.total.item() == pytest.approx(total)
        if balancer:
            (gradient,) = torch.autograd.grad(values.total, reconstruction)
            # All three drive every sample up alike, so norms add up to 4: 1 in each of 16 samples.
            torch.testing.assert_close(gradient, torch.full((2, 1, 16), -1.0))
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_what_does_not_fit_one_another_is_refused() -> None:
    plain, one = WeightedLoss({"a": Slope(1.0)}, {"a": 1.0}), torch.tensor(1.0)
    with pytest.raises(ValueError, match="got none; choose loss=adversarial"):
        plain(AUDIO, AUDIO, {}, adversarial=True)
    for loss, name in ((plain, "a"), (with_adversary(), "feature_matching")):
        with pytest.raises(ValueError, match=rf"\['{name}'\] have the names"):
            loss(AUDIO, AUDIO, {name: one})
    with pytest.raises(ValueError, match=r"terms: \['adversarial'\] have the names of adversarial terms"):
        WeightedLoss({"adversarial": Slope(1.0)}, {"adversarial": 1.0}, adversary=with_adversary().adversary)
