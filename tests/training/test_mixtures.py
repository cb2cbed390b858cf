"""A run on several sources: what it logs of each beside the whole, and what it says."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from discrete_ae.data import AudioDataModule
from tests.runs import events_of, scalars


def test_each_source_is_logged_beside_the_whole(
    run_training: Callable[..., Path], recordings: Path, ste_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, clips in (("speech", (0, 1, 2)), ("noise", (3, 4, 5))):
        (tmp_path / name).mkdir()
        for clip in clips:
            (tmp_path / name / f"clip_{clip}.wav").symlink_to(recordings / f"clip_{clip}.wav")
    run = run_training(
        *("data=mixture", "data.root=null", f"data.sources.speech.root={tmp_path}/speech", "data.sources.music=null"),
        *(f"+data.sources.noise={{root:{tmp_path}/noise,weight:1}}", "data.sources.speech.weight=3e0"),
        *("data.max_validation_segments=5", "trainer.max_steps=2", "trainer.val_check_interval=1"),
        *("callbacks.clips.count=2", "callbacks.clips.max_seconds=0.5"),
    )
    said = capsys.readouterr().out
    assert "; speech 75.0 % of the crops (0.0 min), noise 25.0 % (0.0 min)\n" in said

    # The whole is the mean over all segments: 2 of one source and 3 of the other.
    config = yaml.safe_load((run / "config.yaml").read_text())["data"]
    data = AudioDataModule(**{name: value for name, value in config.items() if name != "_target_"})
    data.setup()
    assert [len(one) for one in data.validation_sets] == [2, 3]
    tags = set(events_of(run).Tags()["scalars"])
    usual = set(events_of(ste_run).Tags()["scalars"])
    of_one = {tag.split("/")[-1] for tag in tags if tag.startswith("val/speech/")}
    assert {"reconstruction", "mel", "l1", "snr", "si_sdr_db"} <= of_one
    assert tags == usual | {f"val/{source}/{name}" for source in ("speech", "noise") for name in of_one}
    for name in of_one:
        for step, whole in scalars(run, f"val/{name}").items():
            speech, noise = (scalars(run, f"val/{source}/{name}")[step] for source in ("speech", "noise"))
            assert whole == pytest.approx((2 * speech + 3 * noise) / 5, rel=1e-5, abs=1e-6)
            assert speech != noise or name == "soft_hard_gap"
    assert list(scalars(run, "val/speech/reconstruction")) == [0, 1, 2]

    # Of both sources clips are heard, by names that tell them apart.
    heard = {tag.removeprefix("audio/original/") for tag in events_of(run).Tags()["audio"] if "original" in tag}
    assert {name.split("/")[0] for name in heard} == {"speech", "noise"}

    # HPARAMS have the settings that the sources have, and the shares that follow.
    held = events_of(run).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    logged = HParamsPluginData.FromString(held).session_start_info.hparams
    assert logged["data.shares.speech"].number_value == 0.75
    assert logged["data.sources.noise.root"].string_value == f"{tmp_path}/noise"
    assert "data.sources.noise.min_seconds" not in logged
    assert not [name for name in logged if "music" in name and name != "data.sources.music"]


def test_wrong_sources_end_in_one_line(
    run_training: Callable[..., Path], recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    speech, music = f"data.sources.speech.root={recordings}", f"data.sources.music.root={recordings}"
    (tmp_path / "empty").mkdir()
    for given, status, told in (
        (
            [speech, music, "data.sources.music.weight=0"],
            2,
            "music.weight: expected a number above 0 (set the source to null to leave it out), got 0",
        ),
        (
            [speech, music, "data.sources.music.hours=long"],
            2,
            "music.hours: expected a number, got 'long'",
        ),
        ([speech, music, "data.sources.music.wieght=1"], 2, "data.sources.music.wieght"),
        ([speech, "+data.sources.music.wieght=1"], 2, "data.sources.music.wieght: SourceSettings has no such"),
        ([speech], 2, "data.sources.music: expected a root or a manifest"),
        ([speech, music, f"data.root={recordings}"], 2, "data.root: expected null beside data.sources"),
        ([speech, f"data.sources.music.root={tmp_path}/empty"], 1, "empty: no audio files"),
    ):
        root = [] if any(each.startswith("data.root=") for each in given) else ["data.root=null"]
        run_training("data=mixture", *root, *given, status=status)
        (line,) = [each for each in capsys.readouterr().err.splitlines() if each and not each.startswith("INFO: ")]
        assert line.startswith("error: ")
        assert told in line
