"""Shares of the gradient against hand arithmetic; `test_weighted.py` has them within a loss."""

import math

import pytest
import torch
from torch import Tensor

from discrete_ae.losses import LossBalancer


def of_norms(*norms: float) -> Tensor:
    """A gradient (B, 1, 4) whose items have these norms."""
    return torch.tensor(norms)[:, None, None] * torch.tensor([0.5, 0.5, -0.5, 0.5])


def test_norms_are_means_over_the_items_of_a_batch_averaged_over_steps() -> None:
    balancer, resumed = (LossBalancer({"a": 1.0}, ema_decay=0.5) for _ in range(2))
    # 6 and 10 have the mean 8; the items keep their proportion. An average of one norm is this norm.
    torch.testing.assert_close(balancer({"a": of_norms(6.0, 10.0)}), of_norms(6 / 8, 10 / 8))
    resumed.load_state_dict(balancer.state_dict())
    # Weights 1/2 for this step and 1/4 for the one before, of a sum of 3/4: (2 / 2 + 8 / 4) / (3 / 4) = 4.
    for continued in (balancer, resumed):
        torch.testing.assert_close(continued({"a": of_norms(2.0)}), of_norms(2 / 4))


def test_a_term_that_has_not_begun_leaves_its_share_to_the_others_and_begins_with_its_own_average() -> None:
    balancer = LossBalancer({"a": 1.0, "late": 1.0}, ema_decay=0.9)
    for _ in range(5):
        torch.testing.assert_close(balancer({"a": of_norms(7.0)}), of_norms(1.0))
    torch.testing.assert_close(balancer({"a": of_norms(7.0), "late": of_norms(0.1)}), of_norms(1.0))


def test_a_gradient_of_zero_stays_zero() -> None:
    balancer = LossBalancer({"a": 1.0, "b": 1.0})
    torch.testing.assert_close(balancer({"a": of_norms(0.0), "b": of_norms(9.0)}), of_norms(0.5))


@pytest.mark.parametrize(
    ("named", "value"),
    [("weights.a", {"a": 0.0}), ("total_norm", 0.0), ("total_norm", math.nan), ("ema_decay", 1.0), ("ema_decay", -0.1)],
)
def test_wrong_arguments_are_refused_by_name(named: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{named}: expected .*got"):
        LossBalancer(**{"weights": {"a": 1.0}} | {named.split(".")[0]: value})


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected some of \['a'\], got \['b'\] as well"):
        LossBalancer({"a": 1.0})({"b": of_norms(1.0)})
