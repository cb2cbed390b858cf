"""compile=true: the same training, in graphs that are made once."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch._dynamo.utils import counters

from discrete_ae.build import build_model, instantiate
from discrete_ae.cli.overrides import CONFIG_DIR, MAIN_CONFIG
from discrete_ae.quantizers import VectorQuantizer
from discrete_ae.training.compiled import CompiledForward, compiled_quantizer, compiler
from tests import models
from tests.runs import SHARPENED, TINY, scalars, state_of

ONE_SCALE = ("loss.terms.mel.window_lengths=[512]", "loss.terms.mel.num_mels=[20]")  # compiled in a third of the time
SIX = ("trainer.max_steps=6", "trainer.val_check_interval=2")

pytestmark = [
    pytest.mark.slow,
    # torch's own: how dynamo makes the context of an autograd function, and what inductor imports.
    pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated"),
    # Dynamo hides it where warnings are shown, which does not help where they are errors.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor is being accessed"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script.* is deprecated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def graphs() -> Iterator[Callable[[], int]]:
    """Number of graphs made since the last look; a second one for the same code is an error."""

    def made() -> int:
        count = counters["stats"]["unique_graphs"]
        torch.compiler.reset()
        counters.clear()
        return count

    made()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield made
    made()


def trace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have graphs made, but not machine code, which takes most of the time and changes no graph."""

    def traced(function: Callable, *, mode: str | None, **settings: Any) -> Callable:
        return compile_function(function, backend="eager", **settings)

    compile_function = torch.compile
    monkeypatch.setattr(torch, "compile", traced)


def test_run_with_schedules_compiles_once_and_computes_the_same(
    run_training: Callable[..., Path], graphs: Callable[[], int]
) -> None:
    eager = run_training(*SHARPENED, *ONE_SCALE, *SIX)
    assert graphs() == 0
    compiled = run_training(*SHARPENED, *ONE_SCALE, *SIX, "compile=true", "callbacks.ema.decay=0.9")
    assert not counters["graph_break"]
    assert graphs() == 4  # audio to latents, the quantizer, latents to audio, the loss
    assert state_of(compiled)["state_dict"].keys() == state_of(eager)["state_dict"].keys()
    for tag in ("train/loss", "train/gradient_norm"):
        assert scalars(compiled, tag) == pytest.approx(scalars(eager, tag), rel=1e-3)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_entries_are_emitted_before_they_are_replaced(ema_decay: float | None) -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 3, 4, ema_decay=ema_decay, dead_code_threshold=2)
    before, latents = copy.deepcopy(quantizer), torch.randn(2, 12, 20)
    out = compiler(cuda_graphs=False)(quantizer.forward)(latents)
    assert torch.equal(out.latents, before.decode(out.codes))
    changed = (quantizer.codebooks != before.codebooks).any(dim=-1)
    assert torch.equal(changed, quantizer.counts == 2) or ema_decay is not None
    assert changed.any()


QUANTIZERS = sorted(path.stem for path in (CONFIG_DIR / "quantizer").glob("*.yaml"))
OPTIONS = (
    "vq quantizer.ema_decay=0.9 quantizer.dead_code_threshold=2",
    "vq quantizer.dead_code_threshold=2 ++quantizer.k_means_steps=2 ++quantizer.dropout=0.5",
    "rvq quantizer.stage.gradient=nsvq ++quantizer.stage.dead_code_threshold=2 ++quantizer.stage.k_means_steps=2",
    "ste quantizer.bound=laplace ++quantizer.rotation=true ++quantizer.dither=true ++quantizer.dropout=0.5",
    "gumbel quantizer.hard=true ++quantizer.reinmax=true",
    "residual_fsq quantizer.learn_scale=true",
)


@pytest.mark.parametrize("quantizer", [*QUANTIZERS, *OPTIONS])
def test_every_quantizer_trains_without_a_break_and_is_traced_once(
    quantizer: str, graphs: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_only(monkeypatch)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose(MAIN_CONFIG, [*f"quantizer={quantizer}".split(), "num_codebooks=2"])
    torch.manual_seed(0)
    eager: Any = instantiate(OmegaConf.to_container(config.quantizer, resolve=True))
    latents = torch.randn(2, eager.dim, 10, requires_grad=True)
    other = copy.deepcopy(eager)
    compiled = compiled_quantizer(other, compiler(cuda_graphs=False))
    for _ in range(3):  # codebooks that move do so alike
        found = []
        for quantize in (eager, compiled):
            torch.manual_seed(1)
            out = quantize(latents)
            loss = out.latents.square().mean() + sum(out.losses.values())
            found.append((out.latents, out.codes, *torch.autograd.grad(loss, latents)))
        for one, another in zip(*found, strict=True):
            torch.testing.assert_close(one, another)
        with torch.inference_mode():
            other.eval()(latents[:1, :, :3])
        other.train()
    assert graphs() == 1


def test_forward_of_a_model_is_three_graphs_whatever_else_runs_it(
    graphs: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_only(monkeypatch)
    torch.manual_seed(0)
    model = build_model(models.config(quantizer=models.RESIDUAL))
    forward, audio = CompiledForward(model, compiler(cuda_graphs=False)), torch.randn(2, 1, 3200)
    for _ in range(2):
        output, expected = forward(audio), model(audio)
        assert torch.equal(output.codes, expected.codes)
        torch.testing.assert_close(output.reconstruction, expected.reconstruction)
        (output.reconstruction.square().mean() + sum(output.losses.values())).backward()
        with torch.inference_mode():
            model.eval()(audio[:1, :, :1000])
        model.train()
    assert graphs() == 3


def test_codebooks_start_outside_the_graphs(graphs: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    trace_only(monkeypatch)
    torch.manual_seed(0)
    stage = models.RESIDUAL["stage"] | {"k_means_steps": 2, "ema_decay": 0.9}
    model = build_model(models.config(quantizer=models.RESIDUAL | {"stage": stage}))
    forward, audio = CompiledForward(model, compiler(cuda_graphs=False)), torch.randn(2, 1, 3200)
    waiting = []
    for _ in range(3):
        waiting.append(model.quantizer.needs_start)
        forward(audio)
    assert waiting == [True, False, False]
    assert graphs() == 3


def test_adversarial_run_compiles_once(
    run_training: Callable[..., Path], graphs: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_only(monkeypatch)
    with torch._dynamo.config.patch(error_on_recompile=False):  # of the loss, once the adversary takes part
        run = run_training(*TINY, *ONE_SCALE, "quantizer=fourier", "compile=true", *SIX)
    assert not counters["graph_break"]
    # Audio to latents, the quantizer, latents to audio, the loss before and with the adversary, the discriminators'.
    assert graphs() == 6
    assert list(scalars(run, "train/discriminator")) == [2, 3, 4, 5]
