"""GumbelSoftmaxQuantizer against torch's gumbel_softmax and numpy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from discrete_ae.quantizers import GumbelSoftmaxQuantizer
from discrete_ae.schedules import Schedule
from tests.refusals import assert_refused

S, K, D = 16, 3, 4  # entries, codebooks, channels of one codebook


def build(seed: int = 0, **arguments) -> GumbelSoftmaxQuantizer:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return GumbelSoftmaxQuantizer(codebook_size=S, num_codebooks=K, codebook_dim=D, **arguments)


def some_latents(batch: int = 2, frames: int = 50) -> Tensor:
    return torch.randn(batch, K * D, frames, generator=torch.Generator().manual_seed(1))


def reference_logits(quantizer: GumbelSoftmaxQuantizer, latents: Tensor) -> Tensor:
    """Minus precision times the squared distance (B, K, T, S), codebook by codebook."""
    blocks = latents.split(D, dim=1)
    distances = [torch.cdist(block.mT, quantizer.codebooks[k]).square() for k, block in enumerate(blocks)]
    return -torch.stack(distances, dim=1) * quantizer.log_precision.exp()[:, None, None]


def reference_mix(quantizer: GumbelSoftmaxQuantizer, choice: Tensor) -> Tensor:
    return torch.cat([(choice[:, k] @ quantizer.codebooks[k]).mT for k in range(K)], dim=1)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_training_forward_and_gradient_are_torchs_gumbel_softmax(temperature, hard):
    quantizer = build(temperature=temperature, hard=hard)
    ours, theirs = some_latents().requires_grad_(), some_latents().requires_grad_()
    torch.default_generator.manual_seed(7)
    out = quantizer(ours)
    torch.default_generator.manual_seed(7)
    logits = reference_logits(quantizer, theirs)
    expected = reference_mix(quantizer, F.gumbel_softmax(logits, tau=temperature, hard=hard))
    torch.testing.assert_close(out.latents, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(out.codes, logits.argmax(-1))

    upstream = some_latents().flip(2)
    inputs = (quantizer.log_precision, quantizer.codebooks)
    gradients = torch.autograd.grad(out.latents, (ours, *inputs), upstream)
    references = torch.autograd.grad(expected, (theirs, *inputs), upstream)
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-4)


def test_evaluation_emits_rows_with_the_gradient_of_the_noiseless_softmax():
    quantizer = build(temperature=0.8).eval()
    ours, theirs = some_latents().requires_grad_(), some_latents().requires_grad_()
    upstream = some_latents().flip(2)
    out, logits = quantizer(ours), reference_logits(quantizer, theirs)
    assert torch.equal(out.codes, logits.argmax(-1))
    for k in range(K):  # the latents of codebook k are rows of its codebook, bit for bit
        assert torch.equal(out.latents[:, k * D : (k + 1) * D].mT, quantizer.codebooks[k][out.codes[:, k]])
    (gradient,) = torch.autograd.grad(out.latents, ours, upstream)
    soft = reference_mix(quantizer, torch.softmax(logits / 0.8, dim=-1))
    (expected,) = torch.autograd.grad(soft, theirs, upstream)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_saturated_scores_stay_finite():
    quantizer = build(temperature=0.01, hard=False)
    latents = (some_latents() * 1e4).requires_grad_()
    out = quantizer(latents).latents
    out.sum().backward()
    assert out.isfinite().all()
    assert latents.grad.isfinite().all()


def test_losses_are_the_divergence_and_the_entropy_of_the_choices():
    quantizer = build(kl_to_uniform=True)
    latents = some_latents().requires_grad_()
    p = torch.softmax(reference_logits(quantizer, latents), dim=-1).detach().double().numpy()
    losses = quantizer(latents).losses
    # sum p log(p / (1/S)) in nats, mean over items, codebooks and frames
    assert losses["kl"].item() == pytest.approx((p * np.log(p * S)).sum(-1).mean(), rel=1e-5)
    # Of the mean choice, in bits, summed over codebooks.
    mean = p.mean(axis=(0, 2))
    assert losses["code_entropy"].item() == pytest.approx(-(mean * np.log2(mean)).sum(), rel=1e-5)
    losses["kl"].backward()
    assert latents.grad.abs().amax(dim=(0, 2)).min() > 0
    with torch.no_grad():
        quantizer.codebooks.zero_()  # latents amid equal entries choose none of them
        uncertain = quantizer(latents).losses
        quantizer.codebooks[:, 1:] = 100.0  # one entry is chosen always
        certain = quantizer(latents).losses
    for name, none, one in (("kl", 0, math.log(S)), ("code_entropy", K * math.log2(S), 0)):
        assert (uncertain[name].item(), certain[name].item()) == pytest.approx((none, one), rel=1e-5, abs=1e-4)
    assert set(build()(latents).losses) == {"code_entropy"}


def test_code_entropy_has_the_gradient_of_finite_differences():
    quantizer = build()
    for parameter in quantizer.parameters():  # which no cast of the quantizer changes
        parameter.data = parameter.data.double()
    latents = some_latents(frames=3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: quantizer.quantize(z).losses["code_entropy"], latents)


# ReinMax --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_reinmax_draws_one_entry_with_the_probabilities_of_the_scores(temperature):
    quantizer, frames = build(reinmax=True, temperature=temperature), 4000
    latents = some_latents(1, 1).expand(1, K * D, frames)
    torch.default_generator.manual_seed(7)
    out = quantizer(latents)
    p = torch.softmax(reference_logits(quantizer, latents[..., :1]), dim=-1)[0, :, 0]
    for k in range(K):
        is_entry = (out.latents[0, k * D : (k + 1) * D].T[:, None] == quantizer.codebooks[k]).all(-1)
        assert (is_entry.sum(dim=1) == 1).all()
        error = (is_entry.float().mean(dim=0) - p[k]).abs()
        assert (error <= 4.5 * (p[k] * (1 - p[k]) / frames).sqrt() + 1e-6).all()
    assert torch.equal(out.codes, reference_logits(quantizer, latents).argmax(-1))  # without noise


def test_reinmax_has_the_gradient_of_the_mean_of_any_square_and_straight_through_has_not():
    """Liu et al. 2023: of second order, so exact for f of degree 2; straight-through is of first order."""
    size, frames = 4, 1000
    torch.default_generator.manual_seed(0)
    entries, latent = torch.randn(1, size, 2).double(), torch.randn(1, 2, 1).double()
    square, line = torch.randn(2, 2).double(), torch.randn(2).double()

    def f(x: Tensor) -> Tensor:  # of (..., 2)
        return ((x @ square) * x).sum(-1) + x @ line

    def mean_gradient(**arguments) -> tuple[Tensor, Tensor]:
        """The gradient of each draw times its probability, and the gradient of sum p f; both for the latent."""
        quantizer = GumbelSoftmaxQuantizer(size, 1, 2, precision=0.5, **arguments)
        for parameter in quantizer.parameters():  # which no cast of the quantizer changes
            parameter.data = parameter.data.double()
        quantizer.codebooks.data.copy_(entries)
        z = latent.clone().requires_grad_()
        p = torch.softmax(-0.5 * (z[0, :, 0] - entries[0]).square().sum(-1), dim=-1)
        (exact,) = torch.autograd.grad(p @ f(entries[0]), z)
        many = latent.expand(1, 2, frames).clone().requires_grad_()
        out = quantizer.quantize(many).latents
        (by_draw,) = torch.autograd.grad(f(out[0].T).sum(), many)
        drawn = torch.cdist(out[0].T.detach(), entries[0]).argmin(dim=-1)
        assert drawn.unique().tolist() == list(range(size))
        # Of ReinMax the gradient follows from the draw; of straight-through also from the noise: the mean over it.
        means = torch.stack([by_draw[0][:, drawn == i].mean(dim=1) for i in range(size)])
        if "reinmax" in arguments:
            torch.testing.assert_close(by_draw[0].T, means[drawn])
        return (p.detach() @ means)[None, :, None], exact

    found, exact = mean_gradient(reinmax=True)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-8)
    biased, _ = mean_gradient()
    assert (biased - exact).norm() > 0.05 * exact.norm()


def test_reinmax_is_algorithm_2():
    quantizer = build(reinmax=True, temperature=1.7)
    latents, upstream = some_latents().requires_grad_(), some_latents().flip(2)
    torch.default_generator.manual_seed(7)
    out = quantizer(latents)
    inputs = [latents, *quantizer.parameters()]
    logits = reference_logits(quantizer, latents)
    drawn = [
        torch.cdist(block.mT, quantizer.codebooks[k]).argmin(-1) for k, block in enumerate(out.latents.split(D, dim=1))
    ]
    choice = F.one_hot(torch.stack(drawn, dim=1), S).float()
    p0 = torch.softmax(logits, dim=-1)
    p1 = ((choice + torch.softmax(logits / 1.7, dim=-1)) / 2).detach()
    p1 = torch.softmax((p1.log() - logits).detach() + logits, dim=-1)
    p2 = 2 * p1 - p0 / 2
    expected = reference_mix(quantizer, p2 - p2.detach() + choice)
    torch.testing.assert_close(out.latents, expected, rtol=0, atol=1e-5)
    found = torch.autograd.grad(out.latents, inputs, upstream)
    torch.testing.assert_close(found, torch.autograd.grad(expected, inputs, upstream), rtol=1e-3, atol=1e-4)


def test_reinmax_of_saturated_scores_is_finite():
    quantizer = build(reinmax=True)
    latents = (some_latents() * 1e4).requires_grad_()
    out = quantizer(latents).latents
    out.sum().backward()
    assert out.isfinite().all()
    assert latents.grad.isfinite().all()


def test_reinmax_is_refused_for_soft_choices():
    for hard in (False, Schedule("switch", 0, 1)):
        with pytest.raises(ValueError, match=r"^reinmax: expected hard=true .* got hard="):
            build(reinmax=True, hard=hard)


WRONG = {
    "reinmax": ("yes", 1, None),
    "kl_to_uniform": ("no", 0, None),
    "hard": ("yes", 1, None),
    "precision": (0, -1.0, math.nan, math.inf, "sharp"),
    "temperature": (0, -1.0, math.nan, math.inf, "warm"),
    "codebook_size": (1, 0, -4, 2.5, "many"),
    "num_codebooks": (0, -1, 1.5, "eight"),
    "codebook_dim": (0, -1, 1.5, "wide"),
}


def test_wrong_arguments_are_refused_by_name():
    assert_refused(GumbelSoftmaxQuantizer, WRONG, codebook_size=S, num_codebooks=K, codebook_dim=D)
