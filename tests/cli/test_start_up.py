"""Commands import what they need: a heavy package that a command does not use stays out of its process."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recordings import write_noise

ROOT = Path(__file__).parents[2]
CHECKPOINT = str(ROOT / "tests" / "golden" / "checkpoint_v1.ckpt")
TRAINING = {"lightning", "torchmetrics", "tensorboard", "torchaudio"}
COMPILER = {"torch._dynamo", "torch._inductor", "torch.onnx.ops", "sympy"}
PLOTS = {"matplotlib", "PIL"}
OTHERS = {"transformers", "onnxruntime", "scipy.signal", "scipy.stats"}
UNUSED = TRAINING | COMPILER | PLOTS | OTHERS
LIGHT = {"torch", "numpy.f2py", "triton", "hydra", *UNUSED}
COMMANDS = {
    "version": (["--version"], LIGHT),
    "help": ([], LIGHT),
    "encode-help": (["encode", "--help"], LIGHT),
    "encode": (["encode", "a.wav", "-o", "codes", "-c", CHECKPOINT], {"triton", "hydra", *UNUSED}),
    "info": (["info", CHECKPOINT], {"hydra", *UNUSED}),
    "evaluate": (
        ["evaluate", "a.wav", "-o", "a.json", "-c", CHECKPOINT, "--metrics", "si_sdr_db"],
        {"lightning", "torchmetrics", "torchaudio", "hydra", *COMPILER, *PLOTS, *OTHERS},
    ),
    "compare": (
        ["compare", "run", "-o", "report", "--metrics", "si_sdr_db", "--clips", "0", "--no-baselines"],
        {"lightning", "torchmetrics", "torchaudio", "hydra", *COMPILER, *OTHERS},
    ),
    "train": (["train", "--help"], UNUSED),
    "train-config": (["train", "--cfg", "job"], UNUSED),
}
TOGETHER = (("version", "help", "encode-help", "encode", "info", "evaluate", "compare"), ("train", "train-config"))
"""Commands that one process runs in turn: none may import more than those behind it."""
RUN = (
    "import json, sys\n"
    "from discrete_ae.cli.main import main\n"
    "found = []\n"
    "for arguments in json.loads(sys.argv[1]):\n"
    "    try: main(arguments)\n"
    "    except SystemExit as ended: status = ended.code\n"
    "    found.append([status, sorted(sys.modules)])\n"
    "json.dump(found, open('modules.json', 'w'))"
)


def write_run(folder: Path) -> None:
    """Write a folder of training with recordings of its own and the golden checkpoint."""
    for number, name in enumerate(("train", "validation")):
        write_noise(folder / name / "a.wav", 8000 + number)
    data = {"root": str(folder / "train"), "validation_root": str(folder / "validation"), "sample_rate": 16000}
    data |= {"_target_": "discrete_ae.data.AudioDataModule", "channels": 1, "crop_seconds": 0.1, "batch_size": 1}
    config = {"model": {}, "data": data, "trainer": {}}
    (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "checkpoints").mkdir()
    shutil.copy(CHECKPOINT, folder / "checkpoints" / "best.ckpt")


def test_every_command_is_run_and_hides_no_import_of_the_next() -> None:
    assert sorted(name for names in TOGETHER for name in names) == sorted(COMMANDS)
    for names in TOGETHER:
        unused = [COMMANDS[name][1] for name in names]
        assert all(later <= earlier for earlier, later in itertools.pairwise(unused))


@pytest.mark.parametrize("names", TOGETHER, ids=",".join)
def test_a_command_imports_no_package_that_it_does_not_use(names: tuple[str, ...], tmp_path: Path) -> None:
    write_noise(tmp_path / "a.wav")
    write_run(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([COMMANDS[name][0] for name in names])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads((tmp_path / "modules.json").read_text())
    for name, (status, modules) in zip(names, found, strict=True):
        assert not status, done.stderr
        assert COMMANDS[name][1] & set(modules) == set(), name
