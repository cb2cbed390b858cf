"""Shared fixtures: short training runs of a very small model on generated recordings."""

import gc
import logging
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

gc.disable()  # while all tests are imported


def pytest_configure(config: pytest.Config) -> None:
    """Import torch and the package in every process that runs tests.

    The process that only hands out tests to workers does without, since the workers wait for it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background, which commands under test would inherit
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import torch
    from torch._inductor.cpu_vec_isa import VecISA

    import discrete_ae.cli.train  # noqa: F401

    # One thread: the models are tiny, and threads that wait for each other on a busy machine are slow.
    torch.set_num_threads(1)
    # torch.compile would try out the vector instructions that the processor says it has, which takes ten seconds.
    VecISA.check_build = lambda *_: True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests: one that came last would leave the other processes without work."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope="session")
def _fast() -> None:
    gc.freeze()  # or each collection passes over all that is imported, a quarter of a second
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a new cache of headers, neither the user's nor that of another test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCRETE_AE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _parsed_yaml_is_kept() -> Iterator[None]:
    """Let Hydra parse a YAML file once, which otherwise takes a third of the time to compose a configuration."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    kept: dict[tuple[str, Path, int], bytes] = {}
    load = FileConfigSource.load_config

    def load_once(self: FileConfigSource, config_path: str) -> object:
        path = Path(self.path, self._normalize_file_name(config_path))
        if not path.is_file():
            return load(self, config_path)
        key = self.provider, path, path.stat().st_mtime_ns
        if key not in kept:
            kept[key] = pickle.dumps(load(self, config_path))
        return pickle.loads(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileConfigSource, "load_config", load_once)
        yield


@pytest.fixture(autouse=True)
def _no_handlers_are_left() -> Iterator[None]:
    """Remove the log handlers that Hydra adds in a test; they write to a stream that pytest closes."""
    handlers = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = handlers


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str], list[str]]]:
    """Run `discrete-ae`; return its exit status, the lines of stdout, and those of stderr that are not INFO."""
    from discrete_ae.cli import main

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        with pytest.raises(SystemExit) as ended:
            main.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        said = [line for line in err.splitlines() if not line.startswith("INFO:")]
        return int(ended.value.code or 0), out.splitlines(), said

    return run


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six short recordings: chirps with noise, at three sample rates, mono and stereo."""
    root = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    for i, (rate, channels) in enumerate([(16000, 1), (16000, 2), (22050, 1), (44100, 2), (8000, 1), (16000, 1)]):
        time = np.arange(rate) / rate
        tone = 0.3 * np.sin(2 * np.pi * (100 + 50 * i) * time * (1 + time))
        audio = tone[:, None] + 0.01 * random.standard_normal((rate, channels))
        soundfile.write(root / f"clip_{i}.wav", audio, rate)
    return root


@pytest.fixture(scope="session")
def run_training(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train a very small model with the given overrides; return the run's folder."""
    from discrete_ae.cli.train import main as train
    from tests.runs import SMALL

    def run(*overrides: str, run_dir: Path | None = None, status: int = 0) -> Path:
        run_dir = run_dir or tmp_path_factory.mktemp("run")
        handlers = list(logging.root.handlers)
        with pytest.raises(SystemExit) as ended:
            train([*SMALL, f"data.root={recordings}", f"hydra.run.dir={run_dir}", *overrides])
        logging.root.handlers[:] = handlers  # Hydra's handlers write to a stream that pytest closes
        assert ended.value.code == status
        return run_dir

    return run


@pytest.fixture(scope="session")
def ste_run(run_training: Callable[..., Path]) -> Path:
    """The folder of a finished run of four steps, with a clip."""
    clip = ("callbacks.clips.count=1", "callbacks.clips.max_seconds=0.5")
    return run_training("quantizer=ste", "trainer.max_steps=4", "trainer.val_check_interval=2", *clip)
