"""Files of a run: events, configuration, checkpoints; numbers that follow a schedule."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.api_pb2 import Experiment
from tensorboard.plugins.hparams.backend_context import Context

import discrete_ae
from tests.runs import REPOSITORY, SHARPENED, events_of, scalars, state_of


def weights_of(run: Path) -> dict[str, float]:
    """Return the weights of the terms that are computed."""
    weights = yaml.safe_load((run / "config.yaml").read_text())["loss"]["weights"]
    return {term: weight for term, weight in weights.items() if weight}


@pytest.fixture(scope="module")
def sharpened_run(run_training: Callable[..., Path]) -> Path:
    return run_training(*SHARPENED, "trainer.max_steps=4", "trainer.val_check_interval=2")


def test_every_scalar_is_documented(ste_run: Path, sharpened_run: Path) -> None:
    tags = {tag for run in (ste_run, sharpened_run) for tag in events_of(run).Tags()["scalars"]}
    assert {"train/loss", "train/mel", "train/gradient_norm", "val/mel", "val/si_sdr_db", "val/codes/usage"} <= tags
    documented = set(re.findall(r"`([\w/<>-]+)`", (REPOSITORY / "docs/tensorboard.md").read_text()))
    assert {"train/<term>", "val/<term>", "train/schedule/<number>"} <= documented
    documented |= {f"{prefix}/{term}" for prefix in ("train", "val") for term in weights_of(ste_run)}
    assert {tag for tag in tags if not tag.startswith("train/schedule/")} <= documented


def test_every_step_logs_the_scheduled_numbers_that_it_used(sharpened_run: Path) -> None:
    # Step s of 4 stands at s / 4 of the run: 4 + 8 s / 4, and hard from 1/2 on.
    assert list(scalars(sharpened_run, "train/schedule/quantizer.rounding.sharpness").values()) == [4, 6, 8, 10]
    assert list(scalars(sharpened_run, "train/schedule/quantizer.rounding.hard").values()) == [0, 0, 1, 1]


@pytest.mark.parametrize("quantizer", ["rvq", "residual_fsq", "ema_rvq"])
def test_dropped_codebooks_are_no_gap(quantizer: str, run_training: Callable[..., Path]) -> None:
    """Residual quantizers emit the values of their codes in training, of fewer codebooks for some items."""
    steps = ("trainer.max_steps=2", "trainer.val_check_interval=1")
    run = run_training(f"quantizer={quantizer}", "num_codebooks=4", "quantizer.dropout=1", *steps)
    assert all(abs(gap) < 1e-4 for gap in scalars(run, "val/soft_hard_gap").values())


def test_the_gap_is_what_is_lost_when_codes_become_hard(ste_run: Path, sharpened_run: Path) -> None:
    # What ste emits in training is what it emits in evaluation.
    assert "val/soft_reconstruction" not in events_of(ste_run).Tags()["scalars"]
    assert set(scalars(ste_run, "val/soft_hard_gap").values()) == {0.0}
    hard, soft, gap = (
        list(scalars(sharpened_run, f"val/{name}").values())
        for name in ("reconstruction", "soft_reconstruction", "soft_hard_gap")
    )
    assert gap == pytest.approx([one - other for one, other in zip(hard, soft, strict=True)], abs=1e-6)
    # Validations at 0, 2 and 4 of 4 steps: soft in the first alone, the exact forward from 1/2 on.
    assert abs(gap[0]) > 1e-4
    assert soft[1:] == pytest.approx(hard[1:], rel=1e-6)


def test_layout_shows_tags_that_are_logged(ste_run: Path) -> None:
    events = events_of(ste_run)
    assert events.summary_metadata["custom_scalars__config__"].plugin_data.plugin_name == "custom_scalars"
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    tags = [tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag]
    assert len(tags) == 10
    for tag in tags:
        (_,) = (logged for logged in events.Tags()["scalars"] if re.match(tag, logged))


def test_run_ends_with_a_validation_wherever_its_last_step_falls(run_training: Callable[..., Path]) -> None:
    run = run_training("trainer.max_steps=3", "trainer.val_check_interval=2")
    assert list(scalars(run, "val/reconstruction")) == [0, 2, 3]
    assert state_of(run)["global_step"] == 3


def test_reconstruction_is_the_weighted_sum_of_the_terms(ste_run: Path) -> None:
    weights = weights_of(ste_run)
    assert weights.keys() >= {"mel", "snr"}
    for prefix in ("train", "val"):
        terms = {term: scalars(ste_run, f"{prefix}/{term}") for term in weights}
        for step, total in scalars(ste_run, f"{prefix}/reconstruction").items():
            # Sums of float32 means: equal to a few units in the last place.
            assert total == pytest.approx(sum(weights[term] * terms[term][step] for term in weights), rel=1e-5)


def hparams_of(logs: Path) -> Experiment:
    """Return the HPARAMS tab of all runs below a folder, from TensorBoard's own server code."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logs)).Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(logs))))
    request = RequestContext()
    written = context.hparams_metadata(request, "")
    return context.experiment_from_metadata(request, "", True, written, [])


def test_hparams_show_every_figure_of_the_validations_under_its_own_tag(ste_run: Path) -> None:
    tags = events_of(ste_run).Tags()["scalars"]
    shown = [info.name.tag for info in hparams_of(ste_run).metric_infos]
    assert shown[0] == "val/reconstruction"
    assert sorted(shown) == sorted(tag for tag in tags if tag.startswith("val/"))
    session = events_of(ste_run).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert {b"StraightThrough", b"bitrate_nominal_bps"} <= set(re.findall(rb"\w+", session))


def test_what_runs_differ_in_comes_first_in_hparams(run_training: Callable[..., Path], tmp_path: Path) -> None:
    short = ("trainer.max_steps=1", "callbacks.entropy_model=null")
    sweep = ("-m", "optim.optimizer.weight_decay=0.1,0.2", "loss.weights.l1=0.5", "loss=mel_l1_snr,balanced")
    run_training(*short, *sweep, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    columns = [info.name for info in hparams_of(tmp_path / "sweep").hparam_infos]
    assert {"loss", "optim.optimizer.weight_decay", "quantizer", "seed"} < set(columns[:5])
    for quantizer in ("ste", "gumbel"):
        run_training(*short, f"quantizer={quantizer}", run_dir=tmp_path / "alone" / quantizer)
    columns = [info.name for info in hparams_of(tmp_path / "alone").hparam_infos]
    assert {"quantizer", "seed"} < set(columns[:5])  # of many that are overridden


def test_what_is_trained_and_validated_opens_time_series(ste_run: Path, sharpened_run: Path) -> None:
    """TensorBoard groups scalars, images and histograms by what is before the first slash, and opens the first two."""
    for run in (ste_run, sharpened_run):
        tags = events_of(run).Tags()
        groups = {tag.split("/")[0] for kind in ("scalars", "images", "histograms") for tag in tags[kind]}
        assert sorted(groups)[:2] == ["train", "val"]
        assert len(groups) > 2


def test_histogram_counts_every_validation_frame(ste_run: Path) -> None:
    # 4 segments of 0.2 s are 3200 samples, 10 frames of 320, each.
    for event in events_of(ste_run).Histograms("val_codes/codebook_0"):
        assert event.histogram_value.num == sum(event.histogram_value.bucket) == 40


def leaves(value: Any, name: object = "") -> Iterator[tuple[object, Any]]:
    """Everything within dicts and lists, with the key of the dict that it is in."""
    if isinstance(value, dict | list | tuple):
        inner = value.items() if isinstance(value, dict) else ((name, part) for part in value)
        for key, part in inner:
            yield from leaves(part, key)
    else:
        yield name, value


def test_a_checkpoint_is_plain_data_that_names_components_of_this_package_alone(
    ste_run: Path, sharpened_run: Path
) -> None:
    for run in (ste_run, sharpened_run):
        found = list(leaves(state_of(run)))  # read as weights only
        assert {type(value) for _, value in found} <= {torch.Tensor, str, int, float, bool, type(None)}
        targets = {str(value) for name, value in found if name == "_target_"}
        assert len(targets) >= 5
        assert all(target.startswith("discrete_ae.") for target in targets)
        assert not [
            value for _, value in found if isinstance(value, str) and value.startswith(("lightning.", "hydra."))
        ]


def test_a_checkpoint_holds_the_scheduled_numbers_beside_the_weights(sharpened_run: Path) -> None:
    content = state_of(sharpened_run)
    assert content["discrete_ae"]["scheduled"] == {"quantizer.rounding.hard": 1, "quantizer.rounding.sharpness": 12}
    assert not [name for name in content["state_dict"] if "sharpness" in name]
    rounding = discrete_ae.load(sharpened_run / "checkpoints" / "last.ckpt").quantizer.rounding
    assert (rounding.sharpness, rounding.hard) == (12, 1)


def test_the_configuration_beside_it_is_resolved(ste_run: Path) -> None:
    text = (ste_run / "config.yaml").read_text()
    assert yaml.safe_load(text)["quantizer"]["num_codebooks"] == 2
    assert "${" not in text


def test_names_that_are_not_utf_8_and_single_samples_are_heard(
    run_training: Callable[..., Path], tmp_path: Path
) -> None:
    for name, length in (("caf\udce9.wav", 4000), ("one.wav", 1)):  # the byte E9
        with (tmp_path / name).open("wb") as file:
            soundfile.write(file, np.full(length, 0.5), 16000, format="WAV")
    few = ("trainer.max_steps=1", "callbacks.clips.count=2", "callbacks.entropy_model=null")
    run = run_training("quantizer=ste", *few, f"data.validation_root={tmp_path}")
    names = {tag.split("/", 2)[2] for tag in events_of(run).Tags()["audio"]}
    assert names == {"caf\\xe9.wav", "one.wav"}
