"""What a run leaves behind: events, configuration, checkpoints."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.plugins.custom_scalar import layout_pb2

from tests.runs import events_of

REPOSITORY = Path(__file__).parents[2]
TERMS = {"mel", "l1", "snr"}


@pytest.fixture(scope="module")
def fourier_run(run_training: Callable[..., Path]) -> Path:
    return run_training(
        "quantizer=fourier", "quantizer.rounding.hard=false", "trainer.max_steps=2", "trainer.val_check_interval=2"
    )


def test_scalars_are_those_of_the_readme(ste_run: Path, fourier_run: Path) -> None:
    tags = {tag for run in (ste_run, fourier_run) for tag in events_of(run).Tags()["scalars"]}
    assert {"train/loss", "train/mel", "train/gradient_norm", "val/mel", "val/si_sdr_db", "val/codes/usage"} <= tags
    assert {tag for tag in tags if tag.startswith("schedule/")} == {"schedule/quantizer.rounding.terms"}
    documented = set(re.findall(r"`([\w/<>-]+)`", (REPOSITORY / "README.md").read_text()))
    assert {"train/<term>", "val/<term>", "hparam/<figure>", "schedule/<number>"} <= documented
    documented |= {f"{prefix}/{term}" for prefix in ("train", "val") for term in TERMS}
    assert {tag for tag in tags if not tag.startswith(("hparam/", "schedule/"))} <= documented


def test_every_figure_of_a_validation_is_in_hparams(ste_run: Path) -> None:
    tags = events_of(ste_run).Tags()["scalars"]
    assert "val/soft_reconstruction" not in tags  # what is emitted in training is what is emitted in evaluation
    of_validation = {f"hparam/{tag.rpartition('/')[2]}" for tag in tags if tag.startswith("val/")}
    assert {tag for tag in tags if tag.startswith("hparam/")} == of_validation


def test_the_gap_is_what_is_lost_when_codes_become_hard(ste_run: Path, fourier_run: Path) -> None:
    assert {event.value for event in events_of(ste_run).Scalars("val/soft_hard_gap")} == {0.0}
    events = events_of(fourier_run)
    hard, soft, gap = (
        [event.value for event in events.Scalars(f"val/{name}")]
        for name in ("reconstruction", "soft_reconstruction", "soft_hard_gap")
    )
    assert gap == pytest.approx([one - other for one, other in zip(hard, soft, strict=True)], abs=1e-6)


def test_layout_shows_tags_that_are_logged(ste_run: Path) -> None:
    events = events_of(ste_run)
    plugin = events.summary_metadata["custom_scalars__config__"].plugin_data
    assert plugin.plugin_name == "custom_scalars"
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    tags = [tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag]
    assert len(tags) == 10
    for tag in tags:
        (_,) = (logged for logged in events.Tags()["scalars"] if re.match(tag, logged))


def test_run_ends_with_a_validation_wherever_its_last_step_falls(run_training: Callable[..., Path]) -> None:
    for steps, expected in ((1, [0, 1]), (3, [0, 2, 3])):
        run = run_training(f"trainer.max_steps={steps}", "trainer.val_check_interval=2")
        assert [event.step for event in events_of(run).Scalars("val/reconstruction")] == expected
        assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == steps


def test_reconstruction_is_the_weighted_sum_of_the_terms(ste_run: Path) -> None:
    events = events_of(ste_run)
    weights = yaml.safe_load((ste_run / "config.yaml").read_text())["loss"]["weights"]
    for prefix in ("train", "val"):
        by_step = {event.step: event.value for event in events.Scalars(f"{prefix}/reconstruction")}
        for step, total in by_step.items():
            terms = {
                term: next(event.value for event in events.Scalars(f"{prefix}/{term}") if event.step == step)
                for term in TERMS
            }
            # Sums of float32 means: equal to a few units in the last place.
            assert total == pytest.approx(sum(weights[term] * value for term, value in terms.items()), rel=1e-5)


def test_hparams_hold_the_real_final_metrics(ste_run: Path) -> None:
    events = events_of(ste_run)
    for tag, source in (("hparam/reconstruction", "val/reconstruction"), ("hparam/usage", "val/codes/usage")):
        assert [(event.step, event.value) for event in events.Scalars(tag)] == [
            (event.step, event.value) for event in events.Scalars(source)
        ]
    plugin = events.summary_metadata["_hparams_/experiment"].plugin_data
    assert plugin.plugin_name == "hparams"
    session = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"StraightThrough" in session
    assert b"bitrate_nominal_bps" in session


def test_histogram_counts_every_validation_frame(ste_run: Path) -> None:
    # 4 segments of 0.2 s are 3200 samples, 10 frames of 320, each.
    for event in events_of(ste_run).Histograms("val_codes/codebook_0"):
        assert event.histogram_value.num == 40
        assert math.isclose(sum(event.histogram_value.bucket), 40)


def test_checkpoints_and_configuration_are_there(ste_run: Path) -> None:
    assert {path.name for path in (ste_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    config = yaml.safe_load((ste_run / "config.yaml").read_text())
    assert config["quantizer"]["num_codebooks"] == 2
    assert "${" not in (ste_run / "config.yaml").read_text()
    assert {"config.yaml", "checkpoints"} <= {path.name for path in ste_run.iterdir()}
