"""What the options of conf/loss are made of."""

from pathlib import Path

import hydra
import pytest
import torch

from discrete_ae.losses import LossBalancer, WeightedLoss

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
DAC_WINDOWS = [32, 64, 128, 256, 512, 1024, 2048]


def build(name: str, *overrides: str) -> WeightedLoss:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(overrides=[f"+loss={name}", "+model.sample_rate=16000", *overrides])
    return hydra.utils.instantiate(config).loss


@pytest.mark.parametrize("name", NAMES)
def test_every_option_gives_a_finite_gradient_and_leaves_the_rate_alone(name: str) -> None:
    loss, generator = build(name), torch.Generator().manual_seed(0)
    target = 0.1 * torch.randn(2, 1, 4000, generator=generator)
    reconstruction = (0.1 * torch.randn(2, 1, 4000, generator=generator)).requires_grad_()
    values = loss(reconstruction, target, {"code_entropy": torch.tensor(64.0)})
    assert values.total == values.reconstruction
    assert "code_entropy" not in values.terms
    values.total.backward()
    assert reconstruction.grad.isfinite().all()
    assert reconstruction.grad.abs().max() > 0


def test_balanced_shares_out_the_default_terms() -> None:
    loss = build("balanced", "loss.balancer.total_norm=0.5", "loss.weights.si_sdr=0.25")
    assert isinstance(loss.balancer, LossBalancer)
    assert loss.balancer.weights == {"mel": 1.0, "l1": 1.0, "snr": 2.0, "si_sdr": 0.25}
    assert loss.balancer.total_norm == 0.5
    assert build("mel_l1_snr").balancer is build("mel_l1_snr").adversary is None


def test_multi_scale_mel_has_the_papers_scales_and_takes_other_terms() -> None:
    loss = build("multi_scale_mel")
    assert loss.weights == {"mel": 15.0}
    assert [scale.dft.window_length for scale in loss.terms["mel"].scales] == DAC_WINDOWS
    assert [scale.bank.shape[1] for scale in loss.terms["mel"].scales] == [5, 10, 20, 40, 80, 160, 320]
    assert build("multi_scale_mel", "loss.weights.snr=1").weights == {"mel": 15.0, "snr": 1.0}


def test_adversarial_has_discriminators_that_may_be_small() -> None:
    small = [f"loss.adversary.discriminators.{name}.width=2" for name in ("periods", "bands")]
    loss = build("adversarial", *small)
    assert loss.adversary is not None
    assert loss.adversary.begin_step == 1000
    assert len(loss.adversary.discriminators["periods"].parts) == 5
    assert len(loss.adversary.discriminators["bands"].parts) == 3
    audio = torch.zeros(1, 1, 2000)
    assert set(loss(audio, audio, {}, adversarial=True).terms) == {"mel", "adversarial", "feature_matching"}
    numbers = [sum(p.numel() for p in made.adversary.parameters()) for made in (loss, build("adversarial"))]
    assert numbers[0] < numbers[1] / 100
