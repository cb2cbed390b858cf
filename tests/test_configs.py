"""Every YAML of conf/, found by itself: it composes, builds, and says how it is used."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from discrete_ae.build import build_model
from discrete_ae.build import instantiate as instantiate_component
from discrete_ae.cli.overrides import CONFIG_DIR, MAIN_CONFIG
from discrete_ae.data import AudioDataModule
from discrete_ae.losses import MultiScaleMel, WeightedLoss
from discrete_ae.quantizers import IdentityQuantizer, Quantizer, ScalarQuantizer
from discrete_ae.training import build_training
from tests import models
from tests.commands import check_train
from tests.runs import TINY

QUANTIZERS_PAGE = (CONFIG_DIR.parent / "docs/quantizers.md").read_text()
FILES = sorted(path.relative_to(CONFIG_DIR) for path in CONFIG_DIR.rglob("*.yaml"))


def group_of(file: Path) -> str:
    """The group that a file is an option of: model for model/conv/tiny, hydra/help for hydra/help/discrete_ae."""
    return file.parent.as_posix() if file.parts[0] == "hydra" else file.parts[0]


def option_of(file: Path) -> str:
    return file.with_suffix("").relative_to(group_of(file)).as_posix()


OPTIONS = [file for file in FILES if len(file.parts) > 1]


BUILT: set[str] = set()
"""The groups whose options a test below builds."""


def options_of(group: str) -> Any:
    BUILT.add(group)
    return pytest.mark.parametrize("option", [option_of(file) for file in OPTIONS if group_of(file) == group])


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Callable[..., DictConfig]]:
    """Compose train.yaml with overrides, for a run in tmp_path."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        yield lambda *overrides: compose(MAIN_CONFIG, [f"run_dir={tmp_path}", *overrides])


def plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=True)


def test_nothing_is_missed() -> None:
    assert len(FILES) > 20
    assert [file for file in FILES if len(file.parts) == 1] == [Path("train.yaml")]
    groups = {group_of(file) for file in OPTIONS if file.parts[0] != "hydra"}
    assert groups == BUILT


def test_train_yaml_is_the_table_of_contents(composed: Callable[..., DictConfig]) -> None:
    text = (CONFIG_DIR / "train.yaml").read_text()
    listed = {re.split(r"[:\s]", line.strip("- "))[0] for line in text.splitlines() if line.startswith("  - ")}
    assert listed - {"_self_", "override"} == {group_of(file) for file in OPTIONS if "/" not in group_of(file)}
    for line in text.splitlines():
        if re.match(r"  - (?!_self_|override)", line):
            assert "  # " in line, f"without a comment: {line}"
    # Every option stands in the comment of its group; quantizers may be added without an edit there.
    (entry,) = (part for part in re.split(r"\n(?=  - )", text) if part.startswith("  - trainer:"))
    for file in OPTIONS:
        if group_of(file) == "trainer":
            assert re.search(rf"\b{option_of(file)}\b", entry)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.with_suffix("").as_posix())
def test_yaml_starts_with_a_comment_and_its_commands_work(file: Path) -> None:
    text = (CONFIG_DIR / file).read_text()
    assert text.startswith("# ")
    comment = [line for line in text.split("\n\n")[0].splitlines() if line.startswith("#")]
    commands = [found for line in comment for found in re.findall(r"(?:python train\.py|tensorboard) ?([^;`]*)", line)]
    if file.parts[0] != "hydra":  # Hydra's own settings are not chosen by anybody
        assert commands, f"no command in the comment of {file}"
    for command in commands:
        if not command.startswith(("--logdir", "--help")):
            check_train(tuple(shlex.split(command)))


@options_of("quantizer")
def test_quantizer_builds_by_itself_and_learns_with_as_many_codebooks_as_told(option: str) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        usual, three = (plain(compose(f"quantizer/{option}", told).quantizer) for told in ([], ["+num_codebooks=3"]))
    quantizer = instantiate_component(usual)
    assert isinstance(quantizer, Quantizer)
    assert f"`{option}`" in QUANTIZERS_PAGE
    if not isinstance(quantizer, IdentityQuantizer):
        assert quantizer.bits_per_frame == pytest.approx(64, rel=0.05)  # for a fair comparison
    torch.manual_seed(0)
    model = build_model(models.config(quantizer=three))
    assert model.quantizer.num_codebooks == (0 if option == "identity" else 3)
    output = model(0.1 * torch.randn(1, 1, 3200))
    (output.reconstruction.square().mean() + sum(output.losses.values())).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert next(model.encoder.parameters()).grad.abs().max() > 0


@pytest.mark.parametrize("option", [option_of(file) for file in OPTIONS if group_of(file) == "quantizer"])
def test_every_quantizer_serves_all_rates_by_one_override(option: str, composed: Callable[..., DictConfig]) -> None:
    if option == "identity":
        pytest.skip("it has no codes")
    quantizer = instantiate(composed(f"quantizer={option}", "quantizer.dropout=0.25").quantizer)
    assert quantizer.decodable_counts == tuple(range(1, quantizer.num_codebooks + 1))
    if isinstance(quantizer, ScalarQuantizer):
        settings = ["quantizer.rotation=true", "quantizer.dither=true"]
        turned = instantiate(composed(f"quantizer={option}", *settings).quantizer)
        assert turned.rotation.shape == (32, 32)
        assert turned.dither.shape == (32, 1)
        assert turned.decodable_counts == (8,)


@options_of("model")
def test_model_builds(option: str, composed: Callable[..., DictConfig]) -> None:
    with torch.device("meta"):  # shapes without numbers: the large ones take no time
        model = build_model(plain(composed(f"model={option}").model))
        latents = model.latents(torch.zeros(2, 1, 3333))
        reconstruction = model.reconstruct(latents, 3333)
    assert latents.shape == (2, model.quantizer.dim, 11)  # ceil(3333 / 320)
    assert reconstruction.shape == (2, 1, 3333)
    assert (model.sample_rate, model.frame_rate_hz, model.bitrate_bps) == (16000, 50, 3200)


# On a CPU, which every machine has; trainer=gpu without one is in tests/cli/test_train.py.
ON_CPU = {"accelerator": "cpu", "devices": 1, "precision": "32-true", "logger": False}


def assert_trains_towards(loss: WeightedLoss) -> None:
    audio = 0.1 * torch.randn(2, 1, 8000, generator=torch.Generator().manual_seed(0))
    assert loss(audio, audio, {}).total == 0 < loss(torch.zeros_like(audio), audio, {}).total


# How the options of a group are built, and what of it is looked at.
BUILDERS: dict[str, Callable[[DictConfig], Any]] = {
    "loss": lambda config: assert_trains_towards(instantiate(config.loss)),
    "data": lambda config: instantiate(config.data, _convert_="all").settings,  # as a run does it
    "optim": lambda config: (
        made := instantiate(config.optim),
        made.scheduler(made.optimizer(nn.Linear(2, 2).parameters()), total_steps=100).step,
    ),
    "trainer": lambda config: instantiate(config.trainer, **ON_CPU).fit,
    "callbacks": lambda config: [instantiate(callback).on_validation_end for callback in config.callbacks.values()],
}
BUILT.update(BUILDERS)
# What an option wants to be told.
WANTED = {"data=mixture": [f"data.sources.{name}.root=/{name}" for name in ("speech", "music")]}


@pytest.mark.parametrize("file", [file for file in OPTIONS if group_of(file) in BUILDERS], ids=option_of)
def test_option_builds(file: Path, composed: Callable[..., DictConfig]) -> None:
    option = f"{group_of(file)}={option_of(file)}"
    BUILDERS[group_of(file)](composed(option, *WANTED.get(option, ())))


def test_choices_follow_one_another_and_the_run(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    config = composed("model.sample_rate=24000", "model.encoder.channels=2", "seed=7", "trainer=ddp")
    settings = instantiate(config.data).settings
    assert (settings.sample_rate, settings.channels, settings.seed) == (24000, 2, 7)
    assert build_model(plain(config.model)).channels == 2
    assert Path(config.callbacks.checkpoints.dirpath) == tmp_path / "checkpoints"
    assert (config.trainer.accelerator, config.trainer.strategy) == ("auto", "ddp")


@pytest.mark.parametrize(
    ("trainer", "found"),
    [
        ("cpu", None),
        ("cpu ++trainer.num_nodes=2", True),  # one process on each of two machines
        ("ddp trainer.devices=1", True),  # one process, whose gradients go through DDP all the same
        ("cpu +trainer.strategy=ddp_find_unused_parameters_false trainer.devices=2", False),  # somebody's own choice
    ],
)
def test_adversarial_run_lets_ddp_find_the_network_that_a_backward_does_not_reach(
    trainer: str, found: bool | None, composed: Callable[..., DictConfig]
) -> None:
    config = composed(*f"trainer={trainer}".split(), "trainer.accelerator=cpu", *TINY)
    strategy = build_training(config).trainer.strategy
    assert getattr(strategy, "_ddp_kwargs", {}).get("find_unused_parameters") is found


def test_adversarial_dac_has_the_proportions_of_dac(composed: Callable[..., DictConfig]) -> None:
    small = [f"loss.adversary.discriminators.{part}.width=2" for part in ("periods", "bands")]
    config = composed("experiment=dac_like", "loss=adversarial_dac", *small)
    loss = instantiate(config.loss)
    fake, real = torch.randn(2, 2, 1, 4000, generator=torch.Generator().manual_seed(0)) / 10
    # As in DAC's code: loops that add up windows, discriminators and feature maps.
    mel = adversarial = features = 0.0
    for window, bands in ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)):
        mel += MultiScaleMel(16000, [window], [bands])(fake, real)
    judged, parts = [], 0
    for discriminator in loss.adversary.discriminators.values():
        for of_fake, of_real in zip(discriminator(fake), discriminator(real), strict=True):
            adversarial += ((1 - of_fake[-1]) ** 2).mean()
            parts += 1
            for one, other in zip(of_fake[:-1], of_real[:-1], strict=True):
                judged.append(one)
                features += (one - other).abs().mean()
    assert (parts, len(judged)) == (5 + 3, 5 * 5 + 3 * 5 * 5)
    values = loss(fake, real, {}, adversarial=True)
    torch.testing.assert_close(values.total, 15 * mel + 1 * adversarial + 2 * features, rtol=1e-4, atol=0)


@options_of("logger")
def test_logger_is_named_and_several_are_composed(option: str, composed: Callable[..., DictConfig]) -> None:
    several = composed(f"logger=[tensorboard,{option}]", "choices.quantizer=ste").logger
    assert set(several) == {"tensorboard", option}
    pytest.importorskip("wandb") if option == "wandb" else None
    loggers = instantiate(several)
    assert all(isinstance(logger, Logger) for logger in loggers.values())


@options_of("debug")
def test_debugging_lies_apart_from_real_runs(option: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(f"debug={option}", "experiment=dac_like")
    assert config.name == "debug"  # logs/debug
    assert config.compile is (option in ("overfit", "profile"))  # that of the experiment
    assert isinstance(instantiate(config.trainer, **ON_CPU), pl.Trainer)


# Sample rate in Hz, audio channels, frames per second, nominal kbps, M parameters of the networks.
EXPERIMENTS = {
    "quick_cpu": (16000, 1, 50, 3.2, None),
    "fine_tune": (16000, 1, 50, 6.4, None),
    "compare": (16000, 1, 50, 3.2, None),
    "tune": (16000, 1, 50, 3.2, None),
    "speech_16k": (16000, 1, 50, 6.4, None),
    "music_44k_8kbps": (44100, 2, 100, 8.0, None),
    "dac_like": (16000, 1, 50, 6.0, 73.9),  # DAC at 16 kHz has 74 M (arXiv:2306.06546)
    "encodec_like": (24000, 1, 75, 6.0, 14.8),  # EnCodec has 14.9 M with its recurrent layers (arXiv:2210.13438)
}


@options_of("experiment")
def test_experiment_is_what_its_name_says(option: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(f"experiment={option}")
    assert config.name == option
    model = build_model(plain(config.model))
    sample_rate, channels, frame_rate_hz, kbps, millions = EXPERIMENTS[option]
    assert (model.sample_rate, model.channels, model.frame_rate_hz) == (sample_rate, channels, frame_rate_hz)
    assert model.bitrate_bps / 1000 == pytest.approx(kbps)
    if millions:
        parameters = sum(p.numel() for half in (model.encoder, model.decoder) for p in half.parameters())
        assert parameters / 1e6 == pytest.approx(millions, rel=0.03)
    assert isinstance(instantiate(config.loss), WeightedLoss)
    assert isinstance(instantiate(config.data), AudioDataModule)
