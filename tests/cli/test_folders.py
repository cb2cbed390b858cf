"""No run is lost: one that begins takes no other one's folder, whenever both begin, unless it is told to."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from discrete_ae.cli.train import main
from tests.runs import SMALL, errors, events_of, fail_at, state_of

SHORT = ("trainer.max_steps=2", "trainer.val_check_interval=1")
LIGHTNING = "lightning.pytorch.callbacks"
CLOCK = "20250102-030405"

Train = Callable[..., Path]


@pytest.fixture
def same_second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stop the clock of folders' names, in an empty working directory."""
    monkeypatch.setattr("hydra.core.utils.datetime", SimpleNamespace(now=lambda: datetime(2025, 1, 2, 3, 4, 5)))
    monkeypatch.chdir(tmp_path)


def begin(recordings: Path, *given: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*SMALL, f"data.root={recordings}", *SHORT, *given])
    assert ended.value.code == 0


@pytest.mark.usefixtures("same_second")
def test_runs_and_sweeps_of_the_same_second_have_folders_of_their_own(recordings: Path, tmp_path: Path) -> None:
    for lr in (0.001, 0.002, 0.003):
        begin(recordings, f"optim.optimizer.lr={lr}")
    name = f"ste-0.8kbps-seed0-{CLOCK}"
    for folder, lr in ((name, 0.001), (f"{name}-2", 0.002), (f"{name}-3", 0.003)):
        run = tmp_path / "logs" / "default" / folder
        assert yaml.safe_load((run / "config.yaml").read_text())["optim"]["optimizer"]["lr"] == lr
        assert state_of(run)["optimizer_states"][0]["param_groups"][0]["initial_lr"] == lr
        steps = [event.step for event in events_of(run).Scalars("val/reconstruction")]
        assert steps == [0, 1, 2]
    begin(recordings, "-m", 'name="it\'s"', "seed=0")
    begin(recordings, "-m", 'name="it\'s"', "seed=0")
    for sweep in (CLOCK, f"{CLOCK}-2"):
        assert (tmp_path / "logs" / "it's" / sweep / "ste-0.8kbps-seed0" / "checkpoints" / "last.ckpt").exists()


def contents(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_folder_that_holds_a_run_is_another_run_s_only_by_force(
    run_training: Train, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = run_training(*SHORT, run_dir=tmp_path / "run")
    other = run_training(*SHORT)
    before = contents(run)
    capsys.readouterr()
    # Neither anew nor as what goes on with a run of another folder.
    for given in ((), (f"ckpt_path={other}/checkpoints/last.ckpt",)):
        run_training("optim.optimizer.lr=1e-9", "trainer.max_steps=3", *given, run_dir=run, status=1)
        out, err = capsys.readouterr()
        (line,) = errors(err)
        assert line.startswith(f"error: {run}: already contains a run")
        assert "hydra.run.dir" in line
        assert "force=true" in line
        assert f"ckpt_path={run}/checkpoints/last.ckpt" in line
        assert out == ""
        assert contents(run) == before
    run_training("trainer.max_steps=3", f"ckpt_path={run}/checkpoints/last.ckpt", run_dir=run)
    assert state_of(run)["global_step"] == 3
    # Without a validation, so that whatever is still there of the other run is seen.
    run_training("trainer.max_steps=1", "+trainer.limit_val_batches=0", "force=true", run_dir=run)
    assert state_of(run)["global_step"] == 1
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt"}
    assert not before.keys() & {path.name for path in run.glob("events.*")}


def test_a_run_that_is_a_step_behind_in_the_same_folder_is_refused(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The other one takes the folder between the look at it and the writing."""
    glob = Path.glob

    def behind(self: Path, pattern: str) -> list[Path]:
        found = list(glob(self, pattern))
        if pattern == "events.out.tfevents.*":
            (self / "config.yaml").write_text("of: another run")
        return found

    monkeypatch.setattr(Path, "glob", behind)
    run_training(*SHORT, run_dir=tmp_path, status=1)
    assert "already contains a run" in capsys.readouterr().err
    assert contents(tmp_path) == {"config.yaml": b"of: another run"}


@pytest.mark.parametrize(
    "slip", ["optim.optimizer.lr=-1", f"+callbacks.lr={{_target_:{LIGHTNING}.LearningRateMonitor}} ~logger.tensorboard"]
)
def test_a_run_that_made_no_step_does_not_keep_its_folder(slip: str, run_training: Train, tmp_path: Path) -> None:
    run_training(*SHORT, *slip.split(), run_dir=tmp_path, status=2)
    run_training(*SHORT, run_dir=tmp_path)
    assert state_of(tmp_path)["global_step"] == 2


def test_a_sweep_begins_a_run_anew_of_which_it_has_no_checkpoint_or_by_force(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("-m", "seed=1", f"hydra.sweep.dir={tmp_path}", *SHORT)
    run = tmp_path / "ste-0.8kbps-seed1"
    with monkeypatch.context() as patch:
        fail_at(patch, "_training_output", 1)
        run_training(*given, "trainer.val_check_interval=2", status=1)
    first = contents(run)
    assert "config.yaml" in first
    run_training(*given)
    assert state_of(run)["global_step"] == 2
    assert first.keys() & {path.name for path in run.iterdir()} == {"config.yaml"}
    run_training(*given, "optim.optimizer.lr=1e-9", "force=true")
    assert state_of(run)["optimizer_states"][0]["param_groups"][0]["initial_lr"] == 1e-9


@pytest.mark.usefixtures("same_second")
@pytest.mark.parametrize("given", [(), ("hydra.sweep.dir=sweep",)])
def test_a_sweep_that_is_refused_leaves_no_folder(given: tuple[str, ...], recordings: Path, tmp_path: Path) -> None:
    for slip in ("quantizer=none_such,ste", "+experiment=none_such"):
        with pytest.raises(SystemExit) as ended:
            main([*SMALL, f"data.root={recordings}", *SHORT, "-m", "seed=1,2", slip, *given])
        assert ended.value.code == 2
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        assert not (tmp_path / "sweep").exists()
    (tmp_path / "sweep").mkdir()  # by the user
    with pytest.raises(SystemExit):
        main([*SMALL, f"data.root={recordings}", *SHORT, "-m", "quantizer=none_such,ste", *given])
    assert (tmp_path / "sweep").exists()


@pytest.mark.usefixtures("same_second")
@pytest.mark.parametrize(
    "slip", ["data.batch_size=2.5", f"+callbacks.stop={{_target_:{LIGHTNING}.EarlyStopping,monitor:val}}"]
)
def test_a_refused_run_leaves_no_folder(slip: str, recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*SMALL, f"data.root={recordings}", *SHORT, slip])
    assert ended.value.code == 2
    assert list((tmp_path / "logs" / "default").iterdir()) == []
    begin(recordings, "seed=1")
    (run,) = (tmp_path / "logs" / "default").iterdir()
    assert state_of(run)["global_step"] == 2
