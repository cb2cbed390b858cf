"""`python train.py` from the command line to its exit status: what is refused, how, and what several runs leave."""

import inspect
import re
import shlex
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from joblib.externals.loky import get_reusable_executor
from omegaconf import DictConfig, OmegaConf

from discrete_ae.build import load
from discrete_ae.cli.main import main as commands
from discrete_ae.cli.overrides import as_meant, compose_config
from discrete_ae.cli.train import main
from discrete_ae.data.shards import write_shards
from discrete_ae.errors import DataError, UsageError
from discrete_ae.training import AutoencoderModule, TrainingRun, build_training
from tests.processes import COMMAND, Process
from tests.runs import SCHEDULE, SHARPENED, SMALL, errors, events_of, scalars, state_of

REPOSITORY = Path(__file__).parents[2]
SHORT = ("trainer.max_steps=2", "trainer.val_check_interval=2")

LIGHTNING = "_target_:lightning.pytorch.callbacks"

Refused = Callable[..., str]


@pytest.fixture
def refused(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> Refused:
    """Run with a status; return the one line on stderr, after a look that nothing was made."""

    def run(*arguments: str, status: int) -> str:
        own = {"data.root": recordings, "hydra.run.dir": tmp_path / "run", "hydra.sweep.dir": tmp_path / "sweep"}
        named = {argument.partition("=")[0] for argument in arguments}
        with pytest.raises(SystemExit) as ended:
            main([*(f"{key}={value}" for key, value in own.items() if key not in named), *arguments])
        out, err = capsys.readouterr()
        assert ended.value.code == status
        assert out == ""  # a run that begins says so
        (line,) = errors(err)
        assert line.startswith("error: ")
        left = {path.name for path in tmp_path.rglob("*")}
        assert left <= {"sweep", "multirun.yaml"}, left  # which Hydra makes before anything can be looked at
        return line

    return run


@pytest.mark.parametrize(
    ("typo", "told"),
    [
        ("quantizer=stee", "did you mean 'ste'?"),
        ("quantizer=STE", "got 'STE'; did you mean 'ste'?"),
        ("quantizer=", "quantizer: expected one of bsq, custom_gradient, "),
        ("quantiser=rvq", "quantiser: no such setting; did you mean 'quantizer'?"),
        ("experiment=dac", "got 'dac'; did you mean 'dac_like'?"),
        ("trainer.max_stepz=3", "trainer.max_stepz: no such setting of Trainer; did you mean 'trainer.max_steps'?"),
        ("trainer.gpus=1", "trainer.gpus: no such setting of Trainer; --help lists"),
        ("+seed=3", "seed: is set already"),
        ("~nothing", "nothing: no such setting"),
        ("quantizer=[ste,rvq]", "-m quantizer=ste,rvq"),
        ("data.root=my audio files", """quote a value with spaces: 'data.root="my audio files"'"""),
        ("trainer.max_steps = 3", "expected key=value, got 'trainer.max_steps'; write it without spaces"),
        ("trainer.max_steps= 3", "write it without spaces: trainer.max_steps=3"),
        ("lr=1", "did you mean 'optim.optimizer.lr'?"),
        ("model=spectral/tny", "did you mean 'spectral/tiny'?"),
        ("quantizer.rounding.sharpnes=3 quantizer=sigmoid", "did you mean 'quantizer.rounding.sharpness'?"),
        (
            "quantizer.gradient=rotation",
            "quantizer.gradient: ScalarQuantizer has no such argument; its arguments are levels",
        ),
        ("optim.optimizer.amsgrad=true", "use +optim.optimizer.amsgrad=true: torch.optim.AdamW"),
        ("foo", "expected key=value, got 'foo'"),
        ("model.encoder.strides=[2,", "cannot read 'model.encoder.strides=[2,'; write key=value"),
        ("quantizer=null", "expected the name of an option, got null"),
        ("quantizer=ste,fourier", "--multirun"),
        ("hydra/launcher=nonsense", "pip install 'discrete-ae[sweeps]'"),
    ],
)
def test_slip_is_named_in_a_line_with_the_nearest_name(typo: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        compose_config(typo.split())
    assert told in str(refused.value)
    assert "quantizer.gradient=" not in str(refused.value)  # no advice to add what is not taken
    assert "\n" not in str(refused.value)
    assert not re.search(r"primary config|In 'train'|Could not|append|struct|object_type", str(refused.value))


no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--nonsense", "--nonsense: no such flag; settings are written key=value"),
        ("--max-steps 10", "--max-steps: no such flag; write trainer.max_steps=10;"),
        ("--lr=1e-4", "no such flag; write optim.optimizer.lr=1e-4;"),
        ("-m --quantizer ste,rvq", "no such flag; write quantizer=ste,rvq;"),
        ("--batch-size data.root=x", "no such flag; write data.batch_size=VALUE;"),
        ("~seed", "seed, which is not set"),
        ("--config-name other", "there is no other.yaml"),
        ("-m quantizer=ste,fourrier", "did you mean 'fourier'?"),
        # Which of the jobs are there is known only when all are composed.
        ("-m quantizer=sigmoid,ste quantizer.rounding.sharpness=4,8", "quantizer.rounding.sharpness"),
        # Hydra composes the default quantizer, ste, with what is not swept: the message says what to write instead.
        ("-m quantizer=sigmoid,fourier quantizer.rounding.sharpness=4", "in a multirun write ++key=value"),
        ("experiment=compare", "this varies seed, quantizer: add -m"),
        ("quantizer.rounding._target_=os.system", "_target_ 'os.system' is refused"),
        ("data.batch_size=0", "data.batch_size"),
        ("trainer.max_steps=-5", "trainer.max_steps: expected a number of at least -1, got -5"),
        ("seed=-5", "seed: expected a whole number from 0 to 4294967295, got -5"),
        (
            "+quantizer.rounding.terms=8",
            "quantizer.rounding.terms: StraightThrough has no such argument; its arguments are ",
        ),
        ("optim.optimizer.lr=-1", "optim: "),
        ("+callbacks.mine={_target_:no_such_package.Mine}", "callbacks.mine: Error loading 'no_such_package.Mine'"),
        ("hydra.run.dir=null", "hydra.run.dir: "),
        ("hydra.job.num=x", "hydra.job.num: Value 'x'"),
        ("data.root=https://host/a", "a path on this machine (a manifest there may list URLs), got 'https://host/a'"),
        ("data.root=", "data.root: expected a path, got ''"),
        ("hydra.sweep.dir=''", "hydra.sweep.dir: expected a path, got ''"),
        ("data.batch_size=2.5", "data.batch_size: expected a whole number, got 2.5"),
        ("data.root=${nowhere}", "data.root: refers to nowhere, which is not set"),
        ("optim.scheduler=null", "optim.scheduler: expected a component"),
        ("~model.encoder._target_", "model.encoder: expected a component with its _target_ (Encoder)"),
        ("trainer.precision=16-mixed", "use trainer.precision=bf16-mixed, or optim.optimizer.fused=false"),
        ("+trainer.strategy=ddp_spawn", "use trainer.strategy=ddp"),
        ("trainer.accelerator=tpu", "torch_xla"),
        (f"+callbacks.swa={{{LIGHTNING}.StochasticWeightAveraging,swa_lrs:0.01}}", "callbacks.ema.decay=0.999"),
        ("compile=true", "no-such-compiler is not on the PATH; install g++"),
        pytest.param("trainer=gpu", "trainer=cpu", marks=no_gpu),
        ("trainer=cpu trainer.devices=999", "trainer.devices: expected at most "),
        ("ckpt_path=a.ckpt init_from=a.ckpt", "give only one of them"),
        (f"quantizer=sigmoid quantizer.rounding.sharpness={{{SCHEDULE},shape:linear,first:-4,last:12}}", "sharpness: "),
    ],
)
def test_usage_error_ends_before_any_run(
    given: str, told: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert told in refused(*given.split(), status=2)


def test_settings_of_the_model_are_checked_before_recordings_are_looked_for(refused: Refused) -> None:
    assert "num_codebooks: " in refused("num_codebooks=0", "data.root=/nowhere", status=2)
    told = "data.sample_rate: expected 16000 as in the model, got 8000"
    assert told in refused("data.sample_rate=8000", "data.root=/nowhere", status=2)
    told = "data.crop_seconds: expected at least one frame of the model, 0.02 s, got 0.019"
    assert told in refused("data.crop_seconds=0.019", "data.root=/nowhere", status=2)


def test_what_lightning_itself_refuses_is_one_line(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    # An allocation of two tasks that are not bound to machines, which Lightning cannot divide.
    for name, value in {"NTASKS": "2", "JOB_NAME": "train", "JOB_ID": "1", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert "Use `--ntasks-per-node=2` instead" in refused("trainer=cpu", status=2)


@pytest.mark.parametrize(("monitor", "trained"), [("val_loss", False), ("nope", True)])
def test_a_metric_that_there_is_not_is_one_line_with_those_there_are(
    monitor: str, trained: bool, run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    stop = f"+callbacks.stop={{{LIGHTNING}.EarlyStopping,monitor:{monitor}}}"
    run = run_training(stop, "trainer.max_steps=2", "trainer.val_check_interval=1", status=2)
    (line,) = errors(capsys.readouterr().err)
    assert monitor in line
    assert "val/si_sdr_db" in line
    assert (run / "config.yaml").exists() == trained  # one of training may be logged for the first time in any step


class OutOfMemory(pl.Callback):
    def __init__(self, on_gpu: bool) -> None:
        self.error = torch.OutOfMemoryError("CUDA: tried to allocate 20.00 GiB.") if on_gpu else MemoryError()

    def on_train_batch_start(self, *arguments: object) -> None:
        raise self.error


OUT_OF_MEMORY = f"+callbacks.memory={{_target_:{__name__}.OutOfMemory,on_gpu:"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("data.crop_seconds=1e9", "can't allocate memory: you tried to allocate "),  # 128 TB
        (OUT_OF_MEMORY + "true}", "(CUDA: tried to allocate 20.00 GiB); use "),
        (OUT_OF_MEMORY + "false}", "(MemoryError); use "),
    ],
)
def test_too_little_memory_is_one_line(
    given: str, told: str, run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    run_training(given, "trainer.max_steps=2", "trainer.val_check_interval=1", status=1)
    (line,) = errors(capsys.readouterr().err)
    assert line.startswith("error: out of memory (")
    assert told in line


def test_values_are_taken_in_the_type_that_is_wanted(run_training: Callable[..., Path]) -> None:
    given = ("data.batch_size=2.0", "trainer.max_steps=2e0", "trainer.val_check_interval=2.0", "data.strict=no")
    config = yaml.safe_load((run_training(*given) / "config.yaml").read_text())
    found = [config["data"]["batch_size"], config["trainer"]["max_steps"], config["data"]["strict"]]
    assert repr(found) == "[2, 2, False]"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("data.root=/nowhere", "/nowhere: no such folder"),
        ("ckpt_path=/nowhere.ckpt", "/nowhere.ckpt: no such checkpoint"),
        ("init_from=/nowhere.ckpt", "/nowhere.ckpt: no such checkpoint"),
        ("hydra.run.dir=/dev/null/run", "/dev/null"),
    ],
)
def test_data_error_ends_before_any_run(given: str, told: str, refused: Refused) -> None:
    assert told in refused(given, status=1)


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        # A fraction of a run without an end.
        (" ".join((*SHARPENED, "trainer.max_steps=-1", "trainer.max_epochs=1")), 2, "set trainer.max_steps"),
        (
            "ckpt_path={run}/checkpoints/last.ckpt quantizer=gumbel",
            1,
            "last.ckpt: its run had another model (quantizer is GumbelSoftmaxQuantizer, in its run ScalarQuantizer); ",
        ),
        (
            "ckpt_path={run}/checkpoints/last.ckpt model.encoder.dim=24 model.decoder.dim=24",
            1,
            "(model.encoder.dim is 24, in its run 16; model.decoder.dim is 24, in its run 16); to resume it, repeat ",
        ),
        (
            "init_from={run}/checkpoints/last.ckpt model.encoder.dim=24 model.decoder.dim=24",
            1,
            "its weights fit neither encoder nor decoder of this model (model.encoder.dim is 24, in its run 16; ",
        ),
        (
            "ckpt_path={run}/checkpoints/last.ckpt trainer.max_steps=6 optim.optimizer._target_=torch.optim.SGD "
            "~optim.optimizer.betas",
            1,
            "last.ckpt: comes from a run with another optimizer than SGD",
        ),
        (f"+callbacks.lr={{{LIGHTNING}.LearningRateMonitor}} ~logger.tensorboard", 2, "no logger"),
        ("+callbacks.checkpoints.mode=best", 2, "`mode` can be min, max"),
        ("callbacks.checkpoints.monitor=val/nothing", 2, "val/nothing"),
        ("ckpt_path={run}", 1, "give checkpoints/best.ckpt or checkpoints/last.ckpt in it"),
    ],
)
def test_what_shows_only_with_the_model_is_one_line(
    given: str, status: int, told: str, ste_run: Path, run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    run_training(*SHORT, *given.replace("{run}", str(ste_run)).split(), status=status)
    (line,) = errors(capsys.readouterr().err)
    assert line.startswith("error: ")
    assert told in line


def test_help_and_configuration_are_printed_wherever_the_flag_stands(capsys: pytest.CaptureFixture) -> None:
    printed = []
    for given in (["--help"], ["seed=3", "--cfg", "job"]):
        with pytest.raises(SystemExit) as ended:
            main(given)
        assert ended.value.code == 0
        printed.append(capsys.readouterr().out)
    (line,) = (line for line in printed[0].splitlines() if line.startswith("quantizer: "))
    assert {"ste", "gumbel"} <= set(line.removeprefix("quantizer: ").split(", "))
    assert "ckpt_path=" in printed[0]
    assert yaml.safe_load(printed[1])["seed"] == 3


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, which is the current one too, with recordings in folders of every kind of name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        (tmp_path / name).mkdir()
    return tmp_path


NAMES = ("2024", "2024_01", "1e3", "audio", "p(1)", "a b", "a#b", "é", "lr=0.001", "a,b", "it's", "[a]", "null", "a\\")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["{name}", "~/{name}", "{home}/{name}", '"~/{name}"', "./{name}"])
@pytest.mark.parametrize("key", ["data.root", "ckpt_path"])
def test_path_is_taken_as_it_is_pasted(key: str, place: str, name: str, at_home: Path) -> None:
    if place.startswith('"') and name == "a\\":
        pytest.skip("in quotes a backslash before a quote is Hydra's")
    (override,) = as_meant([f"{key}={place.format(name=name, home=at_home)}"])
    (parsed,) = OverridesParser.create().parse_overrides([override])
    assert parsed.get_key_element() == key
    assert (at_home / str(parsed.value())).samefile(at_home / name)


@pytest.mark.parametrize(
    "name", [*sorted({*NAMES} - {"null", "[a]"}), "my run (1)", "../new #1", "yes", "logs/2024_01 (b)"]
)
@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
def test_name_of_a_new_folder_is_taken_as_it_is_typed(key: str, name: str, tmp_path: Path) -> None:
    if name == "a\\":
        pytest.skip("a backslash is Hydra's")
    (parsed,) = OverridesParser.create().parse_overrides(as_meant([f"{key}={name}"]))
    assert parsed.value() == name


def test_other_values_are_hydras(at_home: Path) -> None:
    (at_home / "ste").mkdir()
    (at_home / "4").mkdir()
    given = ["quantizer=ste", "seed=4", "+x=[/a,/b]", "data.root=/a(1)/${seed}", 'init_from="~/x"', "hydra.run.dir=~/x"]
    assert as_meant(given[:3]) == given[:3]
    config = compose_config(given)
    assert (config.seed, config.x, config.data.root, config.init_from) == (4, ["/a", "/b"], "/a(1)/4", f"{at_home}/x")


def test_places_of_sources_are_paths_too(at_home: Path) -> None:
    given = ["data=mixture", "data.sources.speech.root=~/a (1)", "data.sources.music.manifest=b=c.jsonl"]
    config = compose_config([*given, "+data.sources.noise.root=2024"])
    sources = config.data.sources
    found = (sources.speech.root, sources.music.manifest, sources.noise.root)
    assert found == (f"{at_home}/a (1)", "b=c.jsonl", "2024")
    assert as_meant(["data.sources.speech.weight=2"]) == ["data.sources.speech.weight=2"]


def test_every_argument_of_the_trainer_is_taken_without_a_plus() -> None:
    names = inspect.signature(pl.Trainer).parameters
    assert "fast_dev_run" in names
    trainer = compose_config([f"trainer.{name}=1" for name in names]).trainer
    assert {name: trainer[name] for name in names} == dict.fromkeys(names, 1)


def test_commas_part_paths_in_a_multirun_alone(at_home: Path) -> None:
    given = ["data.root=~/a b,/c d", "data.validation_root=a,b", "quantizer=ste,rvq", "init_from=choice(x,y)"]
    expected = [f"data.root='{at_home}/a b','/c d'", "data.validation_root='a,b'", *given[2:]]
    assert as_meant(given, multirun=True) == expected
    assert as_meant(["data.root=new (1),new (2)"], multirun=True) == ["data.root='new (1)','new (2)'"]
    assert as_meant(given)[0] == f"data.root='{at_home}/a b,/c d'"
    lists = ["data.manifest=[/a.jsonl,/b.jsonl]", "+data.sources.speech={manifest:[/a.jsonl,/b.jsonl],weight:1}"]
    assert as_meant(lists, multirun=True) == lists


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def test_multirun_over_a_key_that_only_its_quantizers_have(
    run_training: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    # The flag may stand anywhere.
    given = ("quantizer=sigmoid,fourier", "++quantizer.rounding.hard=false")
    run_training(*given, f"hydra.sweep.dir={tmp_path}", "-m", *SHORT)
    assert [line for line in errors(capsys.readouterr().err) if "error" in line.lower()] == []
    assert len(folders(tmp_path)) == 2
    for quantizer in ("sigmoid", "fourier"):
        run = tmp_path / f"{quantizer}-0.8kbps-seed0"  # 2 codebooks of 8 bits, 50 times a second
        assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            composed = compose("train", [f"quantizer={quantizer}", "num_codebooks=2"]).quantizer
        expected = OmegaConf.to_container(composed, resolve=True)
        expected["rounding"]["hard"] = False
        assert state_of(run)["discrete_ae"]["model"]["quantizer"] == expected
        assert yaml.safe_load((run / "config.yaml").read_text())["quantizer"] == expected


def test_failing_jobs_of_a_multirun_do_not_end_the_others(
    run_training: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(config: DictConfig, chosen: dict) -> TrainingRun:
        if config.quantizer.bound == "clamp":
            raise RuntimeError("out of\nmemory")  # an error that nobody foresaw
        return build_training(config, chosen)

    monkeypatch.setattr("discrete_ae.training.run.build_training", build)
    bounds = "quantizer.bound=nonsense,clamp,tanh"
    run_training("-m", bounds, f"hydra.sweep.dir={tmp_path}", *SHORT, status=2)
    out, err = capsys.readouterr()
    named = {bound: f"ste-0.8kbps-seed0-bound_{bound}" for bound in ("clamp", "tanh")}
    named["nonsense"] = "ste-invalid-seed0-bound_nonsense"
    assert set(folders(tmp_path)) == set(named.values())
    assert "sweep: 1 run done, 2 failed" in out
    assert out.count("reached: SI-SDR ") == 1  # by the run that trained
    headings = [line for line in out.splitlines() if line.startswith("run ") and "=" in line]
    assert headings == [
        f"run {number} of 3: quantizer.bound={bound}" for number, bound in enumerate(("nonsense", "clamp", "tanh"), 1)
    ]
    assert "++" not in out + err
    after_runs = [line for line in out.splitlines() if line.startswith("run ") and " of 3 " in line]
    assert re.match(r"run 1 of 3 failed after \d+ s$", after_runs[0])  # nothing is known of a run's time yet
    assert re.match(r"run 3 of 3 done in \d+ s$", after_runs[2])
    assert len(after_runs) == 3
    assert f"failed: {named['clamp']}: RuntimeError: out of memory" in err.splitlines()
    assert err.count("Traceback") == 1
    assert "error: quantizer.bound: expected " in err
    assert (tmp_path / named["nonsense"] / "error.txt").read_text().startswith("quantizer.bound: expected")
    assert not (tmp_path / named["nonsense"] / "checkpoints").exists()
    assert (tmp_path / named["tanh"] / "checkpoints" / "last.ckpt").exists()
    assert not (tmp_path / named["tanh"] / "error.txt").exists()


def test_a_sweep_that_was_broken_off_goes_on_in_its_folder(
    run_training: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sweep(max_steps: int, status: int = 0) -> str:
        capsys.readouterr()
        given = ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}", "trainer.val_check_interval=2"]
        run_training(*given, f"trainer.max_steps={max_steps}", status=status)
        captured = capsys.readouterr()
        return captured.out + captured.err

    def interrupted(self: AutoencoderModule, *arguments: object) -> dict[str, torch.Tensor]:
        if self.global_step == 3 and self.seed == 2:
            raise KeyboardInterrupt
        return training_step(self, *arguments)

    training_step = AutoencoderModule.training_step
    monkeypatch.setattr(AutoencoderModule, "training_step", interrupted)
    sweep(4, status=130)
    monkeypatch.undo()
    said = sweep(6, status=1)
    assert said.count("holds a run with another trainer; give another hydra.sweep.dir") == 4  # at once, and at the end
    # The runs that are there are none the worse for it.
    said = sweep(4)
    assert said.count("finished already") == 1
    assert said.count("next:\n") == 1  # of the sweep
    assert "\nrun 1 of 2 was done already\n" in said
    assert re.search(r"\nrun 2 of 2 done in \d+ s\n", said)
    assert said.count("resuming: ") == 1
    assert [state_of(tmp_path / f"ste-0.8kbps-seed{seed}")["global_step"] for seed in (1, 2)] == [4, 4]
    assert not [*tmp_path.rglob("error.txt"), *tmp_path.rglob("refused.txt")]


def test_the_comparison_has_every_quantizer_and_three_seeds() -> None:
    names = {path.stem for path in (REPOSITORY / "conf" / "quantizer").glob("*.yaml")}
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = compose("train", ["experiment=compare"], return_hydra_config=True)
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        params = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
        seeds, quantizers = parser.parse_overrides(params)
        assert list(seeds.sweep_string_iterator()) == ["1", "2", "3"]
        assert set(quantizers.sweep_string_iterator()) == names - {"rvq_pretrained"}


@pytest.mark.slow
def test_runs_in_processes_of_their_own(
    run_training: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    # One of them fails.
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    given = ["-m", "quantizer.bound=tanh,nonsense", *launcher, *SHORT, f"hydra.sweep.dir={tmp_path}"]
    try:
        run_training(*given, status=1)
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
    out, err = capfd.readouterr()
    assert "sweep: 1 run done, 1 failed" in out
    assert {line.split(" in ")[0] for line in out.splitlines() if line.startswith("run 1 of 2 ")} == {"run 1 of 2 done"}
    assert "failed: ste-invalid-seed0-bound_nonsense: quantizer.bound" in err
    assert (tmp_path / "ste-0.8kbps-seed0-bound_tanh" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.slow
def test_optuna_searches_sharpness_and_learning_rate(
    run_training: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = ["-m", "experiment=tune", "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={tmp_path}", *SHORT]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's own, of its deprecated distributions
        run_training(*given)
    assert "run 2 of 2 done in " in capsys.readouterr().out
    found = folders(tmp_path)
    assert len(found) == 2
    for number, name in enumerate(sorted(found, key=lambda name: name.rpartition("-")[2])):
        config = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        sharpness, lr = config["quantizer"]["rounding"]["sharpness"], config["optim"]["optimizer"]["lr"]
        assert 2 <= sharpness <= 16
        assert 3e-4 <= lr <= 1e-2
        assert name == f"sigmoid-0.8kbps-seed0-sharpness_{sharpness:.6g}-lr_{lr:.6g}-{number}"
    best = yaml.safe_load((tmp_path / "optimization_results.yaml").read_text())
    assert best["best_value"] < 10  # a real one: the untrained model has about 5


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("trainer.max_steps=0", False),
        ("ckpt_path={run}/checkpoints/last.ckpt trainer.max_steps=4", False),
        ("callbacks.checkpoints=null", True),
        ("callbacks.checkpoints=null callbacks.last_checkpoint=null", True),
    ],
)
def test_only_checkpoints_that_there_are_are_named(
    given: str, made: bool, ste_run: Path, run_training: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    capsys.readouterr()
    run = run_training(*SHORT, *given.replace("{run}", str(ste_run)).split())
    out = capsys.readouterr().out
    written = list(run.rglob("*.ckpt"))
    begun = [ste_run / "checkpoints" / "last.ckpt"] if "ckpt_path" in given else []
    named = {Path(word.partition("=")[2] or word) for word in out.split() if word.endswith(".ckpt")}
    assert named == {*written, *begun}
    assert ("nothing was trained" in out) != made
    assert ("checkpoint: none was written" in out) == (not named)
    assert [path.name for path in written] == (["last.ckpt"] if given == "callbacks.checkpoints=null" else [])


def test_lightning_s_profiler_prints_its_table(run_training: Callable[..., Path], capfd: pytest.CaptureFixture) -> None:
    run_training(*SHORT, "+trainer.profiler=simple")
    assert "run_training_batch" in capfd.readouterr().err


def test_profiles_are_named_at_the_end(run_training: Callable[..., Path], capsys: pytest.CaptureFixture) -> None:
    run = run_training("debug=profile", *SHORT)
    (named,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("profile: "))
    assert named == f"profile: {run}/fit-profile.txt, {run}/validate-profile.txt"
    assert (run / "fit-profile.txt").exists()


def test_what_a_run_says_comes_next_can_be_pasted(
    run_training: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(self: AutoencoderModule, *arguments: object) -> dict[str, torch.Tensor]:
        if self.global_step == 1:
            signal.raise_signal(signal.SIGINT)
        return training_step(self, *arguments)

    monkeypatch.chdir(tmp_path)
    training_step = AutoencoderModule.training_step
    with monkeypatch.context() as patched:
        patched.setattr(AutoencoderModule, "training_step", interrupted)
        run_training("trainer.max_steps=3", run_dir=tmp_path / "it's (1), a=b #é" / "run $1", status=130)
    said = capsys.readouterr().out.partition("next:\n")[2]
    tensorboard, encode, go_on = map(shlex.split, said.strip().splitlines())
    assert Path(tensorboard[-1]).is_dir()
    with pytest.raises(SystemExit) as ended:
        commands(encode[1:])
    assert ended.value.code == 0
    assert len([*Path("codes").glob("*.npz")]) == len([*Path(encode[2]).iterdir()])
    (ckpt_path,) = (word for word in go_on if word.startswith("ckpt_path="))
    again = run_training(ckpt_path, "trainer.max_steps=3", "trainer.val_check_interval=1")
    assert state_of(again)["global_step"] == 3


def test_run_folders_have_no_character_with_a_meaning() -> None:
    values = {"a": 1e6, "b": [0.8, 1.25], "c": "é x=1,#&?%$(~)/\\'", "d": None, "e": -0.5}
    config = OmegaConf.create({"hydra": {"runtime": {"choices": {"quantizer": "mine/ste"}}}, "seed": 3, "of": values})
    OmegaConf.update(config, "name", "${run_name:" + ",".join(f"of.{name}" for name in values) + "}")
    assert config.name == "mine_ste-invalid-seed3-a_1e06-b_0.8_1.25-c_x_1-d_None-e_-0.5"


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package that can be imported, and a configuration folder with its quantizer and experiment."""
    usual = (REPOSITORY / "conf" / "quantizer" / "ste.yaml").read_text()
    files = {
        "own_package/__init__.py": "from discrete_ae.quantizers import ScalarQuantizer as S\nclass Own(S): pass\n",
        "conf/quantizer/own.yaml": usual.replace("discrete_ae.quantizers.ScalarQuantizer", "own_package.Own"),
        "conf/experiment/own.yaml": "# @package _global_\ndefaults:\n  - override /quantizer: own\nname: own\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


OWN_DATA = """
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

class Noise(pl.LightningDataModule):
    def __init__(self, batch_size, channels, **others):
        super().__init__()
        self.batch_size, self.channels = batch_size, channels

    def _loader(self, count):
        audio = torch.rand(count, self.channels, 3200, generator=torch.Generator().manual_seed(count)) - 0.5
        return DataLoader(audio if self.channels else [[each] for each in audio], self.batch_size)

    def train_dataloader(self):
        return self._loader(16)

    def val_dataloader(self):
        return [self._loader(3), self._loader(1)]
"""


def test_own_quantizer_and_experiment_in_own_folder(run_training: Callable[..., Path], own_folder: Path) -> None:
    own = ("--config-dir", str(own_folder / "conf"), "experiment=own")
    run = run_training(*own, *SHORT)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["name"], config["choices"]["quantizer"]) == ("own", "own")
    checkpoint = run / "checkpoints" / "last.ckpt"
    for trust in ([], ["os"]):
        with pytest.raises(DataError, match=r"_target_ 'own_package\.Own' is refused"):
            load(checkpoint, trust=trust)
    assert type(load(checkpoint, trust=["own_package"]).quantizer).__module__ == "own_package"
    # What is to be trained is named by the configuration, not by the checkpoint.
    again = run_training(*own, f"ckpt_path={checkpoint}", "trainer.max_steps=3", "trainer.val_check_interval=3")
    assert state_of(again)["global_step"] == 3
    run_training(*own, f"init_from={checkpoint}", *SHORT)


def test_a_data_module_of_ones_own(
    run_training: Callable[..., Path], own_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    (own_folder / "own_data.py").write_text(OWN_DATA)
    (own_folder / "conf/data").mkdir()
    settings = {"batch_size": 2, "channels": 1, "root": "", "crop_seconds": 1.0, "max_validation_segments": 1}
    (own_folder / "conf/data/own.yaml").write_text(yaml.safe_dump({"_target_": "own_data.Noise", **settings}))
    own = ("--config-dir", str(own_folder / "conf"), "data=own", "callbacks.clips.count=2")
    run = run_training(*own, *SHORT)
    assert "data: Noise\n" in capsys.readouterr().out
    # The whole is the mean over both sets, of three segments and of one.
    whole, first, second = (scalars(run, f"val/{of}reconstruction")[2] for of in ("", "0/", "1/"))
    assert first != second
    assert whole == pytest.approx((3 * first + second) / 4, rel=1e-5)
    assert {"audio/original/segment_0", "audio/original/segment_1"} <= set(events_of(run).Tags()["audio"])
    for wrong, expected in {"channels=2": "(batch, 1, samples)", "channels=0": "tensors (B, C, N), got list"}.items():
        run_training(*own, f"data.{wrong}", *SHORT, status=2)
        assert expected in capsys.readouterr().err


def example(language: str, holds: str) -> str:
    """Return the example of docs/data.md that holds a text."""
    page = (REPOSITORY / "docs/data.md").read_text()
    examples = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (found,) = (text for text in examples if holds in text)
    return found


OF_THE_PAGE = ("trainer=cpu", "model=spectral/tiny", "logger=null", "callbacks=null", *SHORT, "hydra.run.dir=run")


def test_the_data_module_of_the_page_trains(own_folder: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    monkeypatch.chdir(own_folder)
    (own_folder / "my_package.py").write_text(example("python", "class Tones"))
    (own_folder / "conf/data").mkdir()
    (own_folder / "conf/data/tones.yaml").write_text("_target_: my_package.Tones")
    with pytest.raises(SystemExit) as ended:
        main(["--config-dir", "conf", "data=tones", *OF_THE_PAGE])
    assert ended.value.code == 0
    assert "data: Tones\n" in capsys.readouterr().out


SHOW_FIRST = """
import sys, my_package
data = my_package.Streamed("tars/shard-000000.tar", "held_out/shard-000000.tar", 16000)
print(next(iter(data.train_dataloader())).shape, [batch[:, 0, 8000].tolist() for batch in data.val_dataloader()])
"""


@pytest.mark.slow
def test_tars_streamed_by_webdataset(own_folder: Path) -> None:
    """The example of docs/data.md, in processes of its own: webdataset leaves files open."""
    pytest.importorskip("webdataset")
    (own_folder / "my_package.py").write_text(example("python", "class Streamed"))
    (own_folder / "conf/data").mkdir()
    (own_folder / "conf/data/streamed.yaml").write_text(example("yaml", "my_package.Streamed"))
    # A level for a second and less, then its negative; the last one at another rate.
    for place, (rate, seconds) in enumerate([(16000, 1.5), (16000, 0.5), (48000, 1.5)]):
        audio = np.full(int(seconds * rate), (place + 1) / 8)
        audio[rate:] *= -1
        for folder in ("a", "b"):
            (own_folder / folder).mkdir(exist_ok=True)
            soundfile.write(own_folder / folder / f"{place}.flac", audio, rate)

    def run(program: str, *arguments: str) -> str:
        process = Process(f"import sys; sys.path.insert(0, '')\n{program}", *arguments, cwd=own_folder)
        assert process.wait() == 0, process.err
        return process.out

    for folder, tars in (("a", "tars"), ("b", "held_out")):
        write_shards(own_folder / folder, own_folder / tars)
    # Sample 8,000 of the first second of each: it is the first one after the end of the recording of half a second.
    shape, values = run(SHOW_FIRST).strip().split(" [[")
    assert shape == "torch.Size([8, 1, 16000])"
    assert [float(value) for value in values.strip("]").split(", ")] == pytest.approx([1 / 8, 0, 3 / 8], abs=1e-4)
    run(COMMAND, "train", "--config-dir", "conf", "data=streamed", *OF_THE_PAGE)


def test_commands_load_what_they_are_told_to_trust(
    run_training: Callable[..., Path],
    own_folder: Path,
    recordings: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(own_folder)
    validation = own_folder / "validation"
    validation.mkdir()
    (validation / "a.wav").symlink_to(recordings / "clip_0.wav")
    own = ("--config-dir", "conf", f"data.validation_root={validation}", "trainer.max_steps=1")
    run_training(*own, "quantizer=own")
    run_training(*own, "-m", "quantizer=own,ste", f"hydra.sweep.dir={own_folder / 'sweep'}")
    said = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if "discrete-ae " in line]
    encode, compare = ([word for word in words if word != "--trust=own_package"] for words in said)
    assert [len(words) for words in said] == [len(encode) + 1, len(compare) + 1]
    checkpoint = encode[encode.index("-c") + 1]
    few = ["--metrics", "si_sdr_db"]
    for given in (
        encode[1:],
        ["decode", "codes", "-o", "decoded", "-c", checkpoint],
        ["evaluate", str(validation), "-c", checkpoint, *few],
        ["export", checkpoint, "-o", "bundle"],
        ["info", checkpoint],
        [*compare[1:], *few, "--no-baselines", "--clips", "0", "--force"],
    ):
        ended = []
        for trust in ([], ["--trust=own_package"]):
            with pytest.raises(SystemExit) as end:
                commands([*given, *trust])
            ended.append(end.value.code or 0)
            out, err = capsys.readouterr()
            assert ("--trust MODULE" in out + err) == (not trust), given
        assert ended == [0 if given[0] == "compare" else 1, 0], given  # compare leaves a run out, and says so


CSV = "_target_:lightning.pytorch.loggers.CSVLogger,save_dir:RUN,name:table"


@pytest.mark.parametrize(
    ("given", "tables", "checkpoints"),
    [
        (["logger=null"], 0, 2),
        (["~logger"], 0, 2),
        ([f"logger={{{CSV}}}"], 1, 2),
        ([f"logger={{a:{{{CSV}}}}}"], 1, 2),
        (["callbacks=null", "logger=null"], 0, 0),
    ],
)
def test_groups_of_many_are_replaced_and_left_out(
    given: list[str], tables: int, checkpoints: int, recordings: Path, tmp_path: Path
) -> None:
    small = [each for each in SMALL if not each.startswith("callbacks.") or given[0] != "callbacks=null"]
    own = [each.replace("RUN", str(tmp_path)) for each in given]
    with pytest.raises(SystemExit) as ended:
        main([*small, *SHORT, f"data.root={recordings}", f"hydra.run.dir={tmp_path}", *own])
    assert ended.value.code == 0
    assert len([*tmp_path.glob("table/version_0/metrics.csv")]) == tables
    assert not [*tmp_path.glob("events*")]
    assert len([*tmp_path.rglob("*.ckpt")]) == checkpoints
