"""What the options of conf/loss are made of, and what all of their terms do alike."""

from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from discrete_ae.losses import LossBalancer, WeightedLoss
from tests.losses.noise import noise

ROOT = Path(__file__).parents[2]
OPTIONS = sorted(path.stem for path in (ROOT / "conf/loss").glob("*.yaml"))


def config(option: str, *overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return hydra.compose(overrides=[f"+loss={option}", "+model.sample_rate=16000", *overrides])


def build(option: str, *overrides: str) -> WeightedLoss:
    return hydra.utils.instantiate(config(option, *overrides)).loss


def every_term() -> dict[str, nn.Module]:
    """By name and settings, also those whose weight is 0."""
    terms = [(name, term) for option in OPTIONS for name, term in config(option).loss.terms.items()]
    configs = {f"{name} {OmegaConf.to_container(term, resolve=True)}": term for name, term in terms}
    return {name: hydra.utils.instantiate(term) for name, term in configs.items()}


TERMS = every_term()
for_every_term = pytest.mark.parametrize("term", TERMS.values(), ids=[name.split()[0] for name in TERMS])


for_every_shape = pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 2), (2, 2, 3200)], ids=str)


@for_every_term
@for_every_shape
def test_nothing_is_better_than_a_perfect_copy(term: nn.Module, shape: tuple[int, ...]) -> None:
    target = noise(*shape)
    perfect, other = term(target.clone(), target), term(2 * target + 0.1, target)
    assert perfect <= 0  # or lower, as minus 100 dB
    assert perfect <= other < 1000
    assert perfect < other or shape == (1, 1, 1)


@for_every_term
@pytest.mark.parametrize("silent", ["none", "reconstruction", "target", "both"])
@for_every_shape
def test_loss_and_gradient_are_finite(term: nn.Module, silent: str, shape: tuple[int, ...]) -> None:
    reconstruction, target = noise(*shape), noise(*shape, seed=1)
    if silent in ("reconstruction", "both"):
        reconstruction.zero_()
    if silent in ("target", "both"):
        target.zero_()
    loss = term(reconstruction.requires_grad_(), target)
    loss.backward()
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert torch.isfinite(reconstruction.grad).all()


@for_every_term
def test_gradient_points_to_the_target(term: nn.Module) -> None:
    target = noise(1, 1, 3200)
    reconstruction = (target + 0.02 * noise(1, 1, 3200, seed=1)).requires_grad_()
    before = term(reconstruction, target)
    (gradient,) = torch.autograd.grad(before, reconstruction)
    step = 1e-3 * reconstruction.detach().norm() * gradient / gradient.norm()
    assert term(reconstruction.detach() - step, target) < before


def test_readme_names_every_term() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in {name.split()[0] for name in TERMS} if f"`{name}`" not in readme] == []


def test_balanced_shares_out_the_default_terms() -> None:
    loss = build("balanced", "loss.balancer.total_norm=0.5", "loss.weights.si_sdr=0.25")
    assert isinstance(loss.balancer, LossBalancer)
    assert loss.balancer.weights == {"mel": 1.0, "l1": 1.0, "snr": 2.0, "si_sdr": 0.25}
    assert loss.balancer.total_norm == 0.5


def test_multi_scale_mel_has_the_papers_scales_and_takes_other_terms() -> None:
    loss = build("multi_scale_mel", "loss.weights.snr=1")
    assert loss.weights == {"mel": 15.0, "snr": 1.0}
    scales = [(scale.dft.window_length, scale.bank.shape[1]) for scale in loss.terms["mel"].scales]
    assert scales == [(32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)]


def test_adversarial_has_discriminators_that_may_be_small() -> None:
    small = [f"loss.adversary.discriminators.{name}.width=2" for name in ("periods", "bands")]
    loss = build("adversarial", *small)
    assert loss.adversary is not None
    assert loss.adversary.begin_step == 1000
    audio = torch.zeros(1, 1, 2000)
    assert set(loss(audio, audio, {}, adversarial=True).terms) == {"mel", "adversarial", "feature_matching"}
    numbers = [sum(p.numel() for p in made.adversary.parameters()) for made in (loss, build("adversarial"))]
    assert numbers[0] < numbers[1] / 100
