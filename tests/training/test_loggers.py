"""Audio, pictures, histograms and hyperparameters reach whatever logger there is, or a line says that they do not."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import lightning.pytorch.loggers.wandb as wandb_logger
import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from discrete_ae.errors import UsageError
from discrete_ae.training.loggers import log_counts


class Medium(NamedTuple):
    """Stand-in for wandb's media types."""

    data: Any
    settings: dict


class Wandb(ModuleType):
    """A stand-in for the package, with the functions that the logger calls."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.run: Any = None
        self.logged: list[dict] = []
        self.config: dict = {}
        self.settings: dict = {}
        self.finished = 0
        self.Audio = self.Image = lambda data, **settings: Medium(data, settings)
        self.Histogram = lambda np_histogram: Medium(np_histogram, {})

    def init(self, **settings: object) -> SimpleNamespace:
        self.settings = settings
        update = lambda values, **_: self.config.update(values)  # noqa: E731
        self.run = SimpleNamespace(log=self.logged.append, config=SimpleNamespace(update=update))
        return self.run

    def finish(self) -> None:
        self.run = None
        self.finished += 1

    def of(self, tag: str) -> list[tuple[int, Any]]:
        """Return the values logged under a tag, with their steps."""
        return [(entry["trainer/global_step"], entry[tag]) for entry in self.logged if tag in entry]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name, found in (("sdk", {}), ("sdk.lib", {"RunDisabled": dict}), ("wandb_run", {"Run": dict})):
        part = ModuleType(f"wandb.{name}")
        vars(part).update(found)
        monkeypatch.setitem(sys.modules, part.__name__, part)
    monkeypatch.setattr(wandb_logger, "_WANDB_AVAILABLE", True)
    monkeypatch.setenv("WANDB_MODE", "")  # the logger sets it
    return module


def test_several_loggers_get_what_they_take(
    wandb: Wandb, run_training: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = run_training(
        "quantizer=ste",
        "logger=[csv,wandb]",
        "name=2024",  # as text, wherever it goes
        "+logger.plain._target_=lightning.pytorch.loggers.TensorBoardLogger",  # Lightning's own, not the subclass
        f"+logger.plain.save_dir={tmp_path}",
        "callbacks.rounding_curve={_target_: discrete_ae.training.callbacks.LogRoundingCurve}",
        "callbacks.clips.count=1",
        "callbacks.clips.max_seconds=0.5",
        "trainer.max_steps=2",
        "trainer.val_check_interval=2",
    )
    assert "WARNING" not in capsys.readouterr().err

    (folder,) = {file.parent for file in tmp_path.rglob("events.out*")}
    events = EventAccumulator(str(folder), size_guidance={"audio": 0, "histograms": 0}).Reload()
    tags = events.Tags()
    assert {tag.split("/")[1] for tag in tags["audio"]} == {"original", "reconstruction"}
    assert {tag.split("/")[0] for tag in tags["images"]} >= {"val_log_mel", "val_rounding"}
    assert tags["histograms"] == ["val_codes/codebook_0", "val_codes/codebook_1"]
    assert {"_hparams_/session_start_info", "custom_scalars__config__"} <= set(events.summary_metadata)

    rows = list(csv.DictReader((run / "csv" / "version_0" / "metrics.csv").read_text().splitlines()))
    losses = {event.step: event.value for event in events.Scalars("val/reconstruction")}
    of_table = {int(row["step"]): float(row["val/reconstruction"]) for row in rows if row["val/reconstruction"]}
    assert of_table == pytest.approx(losses)
    assert "StraightThrough" in (run / "csv" / "version_0" / "hparams.yaml").read_text()

    for tag in tags["audio"]:
        found = wandb.of(tag)
        assert [step for step, _ in found] == ([0] if "/original/" in tag else [0, 2])
        assert found[0][1][0].data.shape == (8000,)
        assert found[0][1][0].settings == {"sample_rate": 16000}
    for tag in tags["images"]:
        assert wandb.of(tag)[0][1][0].data.dtype == np.uint8
    # 4 segments of 0.2 s are 10 frames each.
    assert [counts[0].sum() for _, (counts, _) in wandb.of("val_codes/codebook_0")] == [40, 40]
    assert dict(wandb.of("val/reconstruction")) == pytest.approx(losses)
    assert wandb.config["quantizer"] == "ste"
    assert wandb.settings["group"] == "2024"
    assert wandb.finished == 1


@pytest.mark.parametrize(("size", "bins"), [(4, 4), (1024, 512)])
def test_a_histogram_in_wandb_has_no_more_bins_than_it_takes(size: int, bins: int, wandb: Wandb) -> None:
    counts = np.arange(size)
    log_counts([wandb_logger.WandbLogger(offline=True)], "codes", counts, 7)
    ((step, (heights, edges)),) = [(step, medium.data) for step, medium in wandb.of("codes")]
    assert step == 7
    assert heights.tolist() == counts.reshape(bins, -1).sum(axis=1).tolist()
    assert edges[[0, -1]].tolist() == [-0.5, size - 0.5]


def test_a_logger_that_is_not_installed_is_a_usage_error(run_training: Callable[..., Path], capsys: Any) -> None:
    if wandb_logger._WANDB_AVAILABLE:
        pytest.skip("wandb is installed")
    run_training("logger=wandb", status=UsageError.exit_status)
    assert "pip install 'discrete-ae[wandb]'" in capsys.readouterr().err


def test_a_run_without_a_logger_trains(run_training: Callable[..., Path]) -> None:
    run = run_training("~logger", "trainer.max_steps=1", "trainer.val_check_interval=1")
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert not list(run.rglob("events.*"))


def test_a_logger_of_scalars_alone_says_once_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loggers = [CSVLogger(tmp_path)]
    for step in range(2):
        log_counts(loggers, "val/codes", np.ones(4, np.int64), step)
    assert caplog.text.count("CSVLogger logs scalars only: audio, pictures and histograms are omitted") == 1
