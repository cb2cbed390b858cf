"""Settings of trainer and optimizer: what is refused, what "auto" is, learning rate and clipping by hand; memory."""

import sys

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from discrete_ae.errors import UsageError
from discrete_ae.quantizers import Quantized, ScalarQuantizer
from discrete_ae.rounding import StraightThrough
from discrete_ae.training import AutoencoderModule, typed_config
from discrete_ae.training.learning_rate import warmup_cosine
from discrete_ae.training.run import keep_freed_memory
from discrete_ae.training.settings import check_codes_of, check_run, resolved_precision


def config(seed: object = 0, **trainer: object) -> DictConfig:
    """Return a valid configuration of a run on a CPU, changed by the given settings."""
    given = {"accelerator": "cpu", "precision": "auto", "val_check_interval": 200} | trainer
    root = {"ckpt_path": None, "init_from": None, "seed": seed, "float32_matmul_precision": "high"}
    root |= {"compile": False, "force": False}
    return OmegaConf.create({**root, "trainer": given})


@pytest.mark.parametrize("precision", ["auto", "32", 32, "bf16-mixed", 16])
def test_precision_and_its_aliases_are_taken(precision: object) -> None:
    check_run(typed_config(config(precision=precision)))


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("trainer.precision", ("bf16-true", 64, None)),
        ("trainer.val_check_interval", (0, 1.5, True, "00:00:05:00", None)),
        ("seed", (-1, 2**32, 1.5, None)),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name_in_a_line(key: str, values: tuple) -> None:
    for value in values:
        with pytest.raises(UsageError, match=f"^{key}: expected .*, got ") as refused:
            typed_config(config(**{key.removeprefix("trainer."): value}))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "has_bf16", "expected"),
    [
        ("auto", True, True, "bf16-mixed"),
        ("gpu", True, True, "bf16-mixed"),
        ("auto", True, False, "32-true"),
        ("auto", False, False, "32-true"),
        ("cpu", True, True, "32-true"),
    ],
)
def test_auto_is_bfloat16_only_on_a_gpu_that_computes_in_it(
    accelerator: str, has_gpu: bool, has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    # A GPU that emulates bfloat16 says that it supports it, unless it is asked for more.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has_bf16
    )
    assert resolved_precision(config(accelerator=accelerator)) == expected
    assert resolved_precision(config(accelerator=accelerator, precision="16-mixed")) == "16-mixed"


@pytest.mark.parametrize(
    ("bound", "algorithm", "expected"),
    [
        (1.0, None, [0.6, 0.8]),  # of (3, 4), whose norm is 5
        (10.0, "norm", [3, 4]),
        (3.5, "value", [3, 3.5]),
        (0.0, "norm", [3, 4]),
        (None, "norm", [3, 4]),
    ],
)
def test_gradient_is_clipped(bound: float | None, algorithm: str | None, expected: list[float]) -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    module = AutoencoderModule.__new__(AutoencoderModule)
    nn.Module.__init__(module)
    module.configure_gradient_clipping(torch.optim.SGD([weight]), bound, algorithm)
    assert weight.grad.tolist() == pytest.approx(expected, rel=1e-5)


def rates(steps: int, **settings: float) -> list[float]:
    """The learning rate of each step, for a peak of 2."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = warmup_cosine(optimizer, **settings)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedule_by_hand() -> None:
    # A quarter more in each of 4 steps, then half a cosine over 8: at its start, middle and end 1, 1/2 and 0 of the way
    # from a fifth of the peak to the peak; a quarter of the way in cos(pi / 4) = sqrt(1/2).
    found = rates(15, total_steps=12, warmup_steps=4, final_share=0.2)
    assert found[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert found[6] == pytest.approx(2 * (0.2 + 0.8 * (1 + 0.5**0.5) / 2))
    assert found[8] == pytest.approx(2 * (0.2 + 0.8 / 2))
    assert found[12:] == pytest.approx([0.4, 0.4, 0.4])
    # Without an end, without a warm-up, with an end before its peak.
    assert rates(4, total_steps=-1, warmup_steps=2) == pytest.approx([1, 2, 2, 2])
    assert rates(3, total_steps=2, warmup_steps=0) == pytest.approx([2, 1, 0], abs=1e-12)
    assert rates(4, total_steps=2, warmup_steps=4) == pytest.approx([0.5, 1, 1.5, 2])


def test_schedule_refuses_what_it_cannot_do() -> None:
    for name, value in (("warmup_steps", -1), ("final_share", -0.1), ("final_share", 1.1), ("final_share", "foo")):
        with pytest.raises(ValueError, match=f"scheduler.{name}: expected a .*got"):
            rates(1, **{"total_steps": 10, "warmup_steps": 1, name: value})


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone")
def test_the_memory_of_a_step_is_used_again() -> None:
    """The pages of a step that was made before are not cleared again."""
    resource = pytest.importorskip("resource")
    keep_freed_memory()
    layers = torch.nn.Sequential(*[torch.nn.Tanh() for _ in range(6)])
    audio = torch.zeros(1, 32, 2**17, requires_grad=True)  # 16 MiB, and as much for the output of each layer

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        layers(audio).sum().backward()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # Mapped anew, the outputs alone are 24,576 pages; at most every second block of them was cleared once.
    assert min(faults() for _ in range(6)) < 6000


class Beyond(ScalarQuantizer):
    """A quantizer of somebody's own, with a code that its codebooks do not have."""

    def quantize(self, latents: Tensor) -> Quantized:
        quantized = super().quantize(latents)
        return Quantized(quantized.latents, quantized.codes + self.codebook_sizes[0], quantized.losses)


def test_a_quantizer_whose_codes_are_beyond_its_codebooks_is_refused() -> None:
    check_codes_of(ScalarQuantizer([4], 2, StraightThrough()))
    with pytest.raises(UsageError, match=r"^quantizer: Beyond: codes: expected 0 <= code < 4 in codebook 0"):
        check_codes_of(Beyond([4], 2, StraightThrough()))
