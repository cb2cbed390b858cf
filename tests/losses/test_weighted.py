"""The weighted sum of named terms."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from discrete_ae.losses import LogSNR, MultiScaleMel, WaveformL1, WeightedLoss


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        return self.value + 0 * (reconstruction - target).mean()


class NotToBeComputed(nn.Module):
    def forward(self, *arguments: Tensor) -> Tensor:
        raise AssertionError("a term of weight 0 was computed")


AUDIO = torch.ones(2, 1, 8)


def test_sum_is_weighted_and_terms_are_not() -> None:
    loss = WeightedLoss({"a": Constant(3.0), "b": Constant(5.0)}, {"a": 2.0, "b": 0.5})
    values = loss(AUDIO, AUDIO, {})
    assert values.total == values.reconstruction == 2 * 3 + 0.5 * 5
    assert values.terms == {"a": 3.0, "b": 5.0}


def test_quantizers_losses_are_weighted_by_name_and_one_without_a_name_counts_once() -> None:
    loss = WeightedLoss({"a": Constant(3.0)}, {"a": 2.0}, {"commitment": 0.25, "not there": 9.0})
    commitment = torch.tensor(4.0, requires_grad=True)
    values = loss(AUDIO, AUDIO, {"commitment": commitment, "entropy": torch.tensor(7.0)})
    assert values.total == 2 * 3 + 0.25 * 4 + 7
    assert values.reconstruction == 2 * 3  # the quantizer's losses are no part of it
    assert values.terms == {"a": 3.0, "commitment": 4.0, "entropy": 7.0}
    values.total.backward()
    assert commitment.grad == 0.25


def test_term_of_weight_zero_is_not_computed() -> None:
    loss = WeightedLoss({"a": Constant(3.0), "off": NotToBeComputed()}, {"a": 1, "off": 0})
    assert set(loss(AUDIO, AUDIO, {}).terms) == {"a"}
    with pytest.raises(AssertionError, match="weight 0"):
        WeightedLoss({"on": NotToBeComputed()}, {"on": 1})(AUDIO, AUDIO, {})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0}, r"one for each of \['a', 'b'\], got \['a'\]"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, r"got \['a', 'b', 'c'\]"),
        ({"a": 1.0, "b": -1.0}, "none below 0"),
        ({"a": 0.0, "b": 0.0}, "one above"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightedLoss({"a": Constant(1.0), "b": Constant(1.0)}, weights)


def test_quantizers_loss_with_the_name_of_a_term_is_refused() -> None:
    loss = WeightedLoss({"a": Constant(1.0)}, {"a": 1.0})
    with pytest.raises(ValueError, match=r"\['a'\] have the names of reconstruction terms"):
        loss(AUDIO, AUDIO, {"a": torch.tensor(1.0)})


def test_loss_is_float32_under_autocast() -> None:
    terms: dict[str, Any] = {"l1": WaveformL1(), "snr": LogSNR(), "mel": MultiScaleMel(16000, [512], [40])}
    loss = WeightedLoss(terms, dict.fromkeys(terms, 1.0))
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 1, 4000, generator=generator)
    reconstruction = (target + 0.01 * torch.randn(2, 1, 4000, generator=generator)).bfloat16()
    expected = loss(reconstruction.float(), target, {})
    with torch.autocast("cpu", torch.bfloat16):
        # The mel product alone is one that autocast would do in bfloat16, with 3 digits.
        assert (terms["mel"].bank_0 @ terms["mel"].spectrograms[0](target)).dtype == torch.bfloat16
        found = loss(reconstruction, target, {})
    assert found.total.dtype == torch.float32
    assert found.total == expected.total
    assert found.terms == expected.terms
