"""Shares of the gradient against hand arithmetic."""

import math

import pytest
import torch
from torch import Tensor

from discrete_ae.losses import LossBalancer
from discrete_ae.losses.balancer import with_gradient


def of_norms(*norms: float) -> Tensor:
    """A gradient (B, 1, 4) whose items have these norms."""
    return torch.tensor(norms)[:, None, None] * torch.tensor([0.5, 0.5, -0.5, 0.5])


def test_first_step_gives_each_term_its_share_whatever_its_norm() -> None:
    balancer = LossBalancer({"a": 1.0, "b": 3.0}, total_norm=2.0)
    up, right = torch.tensor([[[0.0, 100.0]]]), torch.tensor([[[1e-3, 0.0]]])
    # The average of one norm is that norm, the correction included: shares of 2 by 1 to 3.
    torch.testing.assert_close(balancer({"a": up, "b": right}), torch.tensor([[[1.5, 0.5]]]))


def test_norms_are_means_over_the_items_of_a_batch() -> None:
    # 3 and 5 have the mean 4; the items keep their proportion.
    torch.testing.assert_close(LossBalancer({"a": 1.0})({"a": of_norms(3.0, 5.0)}), of_norms(3 / 4, 5 / 4))


def test_norms_are_averaged_over_steps_and_corrected_for_the_start() -> None:
    balancer = LossBalancer({"a": 1.0}, ema_decay=0.5)
    balancer({"a": of_norms(8.0)})
    # Weights 1/2 for this step and 1/4 for the one before, of a sum of 3/4: (2 / 2 + 8 / 4) / (3 / 4) = 4.
    torch.testing.assert_close(balancer({"a": of_norms(2.0)}), of_norms(2 / 4))


def test_a_term_that_has_not_begun_leaves_its_share_to_the_others_and_begins_with_its_own_average() -> None:
    balancer = LossBalancer({"a": 1.0, "late": 1.0}, ema_decay=0.9)
    for _ in range(5):
        torch.testing.assert_close(balancer({"a": of_norms(7.0)}), of_norms(1.0))
    torch.testing.assert_close(balancer({"a": of_norms(7.0), "late": of_norms(0.1)}), of_norms(1.0))


def test_a_gradient_of_zero_stays_zero() -> None:
    balancer = LossBalancer({"a": 1.0, "b": 1.0})
    torch.testing.assert_close(balancer({"a": of_norms(0.0), "b": of_norms(9.0)}), of_norms(0.5))


def test_state_continues_where_it_was() -> None:
    whole, first, second = (LossBalancer({"a": 1.0, "b": 2.0}, ema_decay=0.7) for _ in range(3))
    gradients = [{"a": of_norms(k + 1.0), "b": of_norms(5.0 - k)} for k in range(4)]
    for step in gradients[:3]:
        whole(step)
        first(step)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(gradients[3]), whole(gradients[3]))


def test_value_is_kept_and_the_gradient_is_the_given_one() -> None:
    reconstruction = torch.zeros(1, 1, 2, requires_grad=True)
    value = with_gradient(torch.tensor(5.0), reconstruction, torch.tensor([[[1.0, -2.0]]]))
    assert value == 5
    (3 * value).backward()
    assert torch.equal(reconstruction.grad, torch.tensor([[[3.0, -6.0]]]))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"weights": {"a": 0.0}}, "weights.a"),
        ({"total_norm": 0.0}, "total_norm"),
        ({"total_norm": math.nan}, "total_norm"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"ema_decay": -0.1}, "ema_decay"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_by_name(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: expected .*got"):
        LossBalancer(**{"weights": {"a": 1.0}} | arguments)
    with pytest.raises(ValueError, match=r"expected some of \['a'\], got \['b'\] as well"):
        LossBalancer({"a": 1.0})({"b": of_norms(1.0)})
