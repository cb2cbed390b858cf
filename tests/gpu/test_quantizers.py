"""The contract of quantizers on a GPU, for every YAML of conf/quantizer."""

import hydra
import pytest
import torch
from torch import Tensor

from discrete_ae.cli.overrides import CONFIG_DIR
from discrete_ae.quantizers import Quantizer
from tests.gpu.devices import on_each_device_every

NAMES = sorted(path.stem for path in (CONFIG_DIR / "quantizer").glob("*.yaml"))
FEW = ("ste", "gumbel", "rvq")
every_quantizer = on_each_device_every(NAMES, FEW)
every_with_codes = on_each_device_every([name for name in NAMES if name != "identity"], FEW)


def build(name: str, device: str) -> Quantizer:
    """A new one with the same weights at each call."""
    torch.manual_seed(0)
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return hydra.utils.instantiate(hydra.compose(overrides=[f"+quantizer={name}"]).quantizer).to(device)


def some_latents(quantizer: Quantizer, device: str, frames: int = 13, batch: int = 3) -> Tensor:
    return torch.randn(batch, quantizer.dim, frames, generator=torch.Generator().manual_seed(1)).to(device)


@every_quantizer
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_all_that_comes_out_lies_there_in_the_callers_dtype(device: str, name: str, training: bool) -> None:
    quantizer = build(name, device).train(training)
    for dtype in (torch.float32, torch.bfloat16):
        latents = some_latents(quantizer, device).to(dtype)
        with torch.autocast(device, torch.bfloat16):
            out = quantizer(latents)
        assert {tensor.device.type for tensor in (out.latents, out.codes, *out.losses.values())} == {device}
        assert (out.latents.dtype, out.latents.shape) == (dtype, latents.shape)
        assert out.latents.isfinite().all()
        assert (out.codes.dtype, out.codes.shape) == (torch.int64, (3, quantizer.num_codebooks, 13))
        sizes = torch.tensor(quantizer.codebook_sizes, device=device)[:, None]
        assert ((out.codes >= 0) & (out.codes < sizes)).all()
        assert all(loss.ndim == 0 and loss.isfinite() for loss in out.losses.values())


@every_with_codes
def test_in_eval_the_decoder_reads_exactly_the_decoded_codes(device: str, name: str) -> None:
    quantizer = build(name, device).eval()
    latents = some_latents(quantizer, device)
    with torch.autocast(device, torch.bfloat16):
        out, again = quantizer(latents), quantizer(latents)
        decoded = quantizer.decode(out.codes)
    assert torch.equal(out.latents, decoded)
    assert torch.equal(out.latents, again.latents)
    assert torch.equal(quantizer.encode(latents), out.codes)


@every_quantizer
def test_the_gradient_is_finite_and_of_the_parameters_dtype(device: str, name: str) -> None:
    quantizer = build(name, device).train()
    latents = some_latents(quantizer, device, frames=64).requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        out = quantizer(latents)
    (out.latents.square().sum() + sum(out.losses.values())).backward()
    assert latents.grad.isfinite().all()
    assert (latents.grad.abs().amax(dim=(0, 2)) > 0).all()
    for parameter in quantizer.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


@pytest.fixture
def _tensor_float_32() -> object:
    """Use the matrix precision of training on a GPU, which keeps 10 bits of the factors of a product."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@every_with_codes
@pytest.mark.usefixtures("_tensor_float_32")
def test_codes_are_those_of_a_cpu(device: str, name: str) -> None:
    # Distances differ in the last bit, which seldom decides; TensorFloat-32 changes one code in 500 (emulated).
    expected = build(name, "cpu")
    latents = some_latents(expected, "cpu", frames=500, batch=8)
    codes = build(name, device).encode(latents.to(device)).cpu()
    assert (codes != expected.encode(latents)).double().mean() < 5e-4
