"""Model to bundle and back: the same model comes back, and nothing that is not one is executed or believed."""

import json
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file, save_file

import discrete_ae
from discrete_ae.build import read_saved, restore
from discrete_ae.codes.entropy import EntropyModel
from discrete_ae.errors import DataError
from discrete_ae.saving.bundle import write_bundle
from tests.fuzzing import damaged, fuzzed, read_or_refused
from tests.models import config, save_checkpoint
from tests.test_build import DANGEROUS, PLACES, named_hash, read, replace_marker

GOLDEN_BUNDLE = Path(__file__).parents[1] / "golden/bundle_v1"
FILES = ["README.md", "config.json", "entropy.safetensors", "model.safetensors"]


def export(checkpoint: Path, target: Path, **arguments: Any) -> Path:
    saved = read_saved(checkpoint)
    assert write_bundle(target, saved, restore(checkpoint, saved), **arguments) == FILES
    return target


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt")
    content = read(path)
    codes = np.random.default_rng(0).integers(0, 256, (2, 8, 100))
    arrays = EntropyModel.fit([codes], [256] * 8).to_arrays()
    content["discrete_ae"]["entropy_model"] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("bundle") / "model", licence="mit")


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def test_bundle_is_the_checkpoints_model(checkpoint: Path, whole: Path) -> None:
    before, after = discrete_ae.load(checkpoint), discrete_ae.load(str(whole))
    audio = torch.randn(2, 1, 3333, generator=torch.Generator().manual_seed(0))
    assert torch.equal(after.encode(audio), before.encode(audio))
    assert not any(part.training for part in after.modules())
    assert after.entropy_model is not None
    assert before.entropy_model is not None
    assert after.entropy_model.fingerprint == before.entropy_model.fingerprint
    # The hash by its definition alone, of what other programs find in the bundle.
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in load_file(whole / "model.safetensors").items()},
        "discrete_ae": json.loads((whole / "config.json").read_text()),
    }
    assert after.model_hash == named_hash(content) == named_hash(read(checkpoint))


def test_config_says_what_other_readers_want(whole: Path) -> None:
    said = json.loads((whole / "config.json").read_text())
    assert (said["schema_version"], said["licence"]) == (1, "mit")
    assert said["about"] == {
        "sample_rate": 16000,
        "channels": 1,
        "hop_length": 320,
        "frame_rate_hz": 50,  # 16000 / 320
        "codebook_sizes": [256] * 8,
        "bitrate_bps": 3200,  # 50 frames of 8 log2(256) bits
        "parameters": sum(tensor.numel() for tensor in discrete_ae.load(whole).state_dict().values()),
    }


def test_a_licence_is_a_text_whatever_is_in_it(checkpoint: Path, tmp_path: Path) -> None:
    model = export(checkpoint, tmp_path / "odd", licence='x: "y"\ntags: [z] | q')
    _, front, card = (model / "README.md").read_text().split("---\n", 2)
    assert front.splitlines()[0] == 'license: "x: \\"y\\"\\ntags: [z] | q"'
    for words in ("| 16000 Hz |", "3.2 kbps", "SpectralEncoder", "| training data | not stated |"):
        assert words in card


def alter(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the configuration of a bundle."""

    def apply(bundle: Path) -> None:
        content = json.loads((bundle / "config.json").read_text())
        change(content)
        (bundle / "config.json").write_text(json.dumps(content, default=repr))

    return apply


def alter_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def apply(bundle: Path) -> None:
        tensors = load_file(bundle / "model.safetensors")
        change(tensors)
        save_file(tensors, bundle / "model.safetensors")

    return apply


def put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda bundle: (bundle / name).write_bytes(content)


def sparse(bundle: Path) -> None:
    with (bundle / "config.json").open("r+b") as stream:
        stream.truncate(2**32)  # takes no room on the disk


def of_terabytes() -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    return struct.pack("<Q", len(header)) + header


def large_tables(bundle: Path) -> None:
    # The lapped transform of 20000 samples is a table of 3.2 GB beside one tensor of 2.6 MB.
    for coder in ("encoder", "decoder"):
        alter(lambda content, coder=coder: content["model"][coder].update(hop_length=20_000))(bundle)
    shapes = {"encoder.project.weight": (16, 40_000), "decoder.project.weight": (20_000, 16)}
    shapes["decoder.project.bias"] = (20_000,)
    alter_tensors(lambda tensors: tensors.update({name: torch.zeros(shape) for name, shape in shapes.items()}))(bundle)


STAGES = {
    "_target_": "discrete_ae.quantizers.ResidualQuantizer",
    "num_stages": 10**9,
    "stage": {**config()["quantizer"], "_partial_": True},
}
FOURIER = {"_target_": "discrete_ae.rounding.Fourier", "terms": 10**9}
ALTERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda bundle: (bundle / "config.json").unlink(), "got a folder without config.json"),
    "no entropy model": (lambda bundle: (bundle / "entropy.safetensors").unlink(), "entropy.safetensors is missing"),
    "another entropy model": (alter(lambda said: said.update(entropy_model="0" * 16)), "damaged or from another model"),
    "empty": (put("config.json", b""), "config.json: Invalid JSON"),
    "gigabytes": (sparse, "expected at most 262144 bytes"),
    "version": (alter(lambda said: said.update(schema_version=2)), "schema_version"),
    "another hash": (alter(lambda said: said.update(model_hash="0" * 64)), "do not match its model hash"),
    "deep": (alter(lambda said: said["model"]["encoder"].update(depth=10**6)), "parts, far too many for its tensors"),
    "levels": (alter(lambda said: said["model"]["quantizer"].update(levels=[2] * 50_000)), "cannot be loaded"),
    "stages": (alter(lambda said: said["model"].update(quantizer=STAGES)), "cannot be loaded"),
    "terms": (alter(lambda said: said["model"]["quantizer"].update(rounding=FOURIER)), "terms: expected at most"),
    "tables": (large_tables, "needs tables of"),
    "reshaped tensor": (
        alter_tensors(lambda tensors: tensors.update({"to_latents.bias": torch.ones(5)})),
        "tensor to_latents.bias: expected shape (32,), got (5,)",
    ),
    "changed tensor": (
        alter_tensors(lambda tensors: tensors["to_latents.bias"].add_(1e-3)),
        "do not match its model hash",
    ),
    "header longer than memory": (put("model.safetensors", struct.pack("<Q", 99_999_999)), "not a file of tensors"),
    "tensor of terabytes": (put("model.safetensors", of_terabytes()), "not a file of tensors"),
}


def refusal(bundle: Path) -> str:
    with pytest.raises(DataError) as refused:
        discrete_ae.load(bundle)
    message = str(refused.value)
    assert message.startswith(str(bundle))
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("case", ALTERED)
def test_altered_bundle_is_refused(case: str, bundle: Path) -> None:
    alteration, reason = ALTERED[case]
    alteration(bundle)
    size = sum(path.stat().st_size for path in bundle.iterdir() if path.stat().st_size < 2**30)
    tracemalloc.start()
    try:
        message = refusal(bundle)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reason in message
    assert peak < 100 * size + 2**24


# What `build_model` refuses, tests/test_build.py proves of every name and place.
@pytest.mark.parametrize("place", ["the model", "a part of a part"])
@pytest.mark.parametrize("danger", ["os.system", "a module seen from the package"])
def test_bundle_naming_something_else_is_refused(danger: str, place: str, bundle: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    wrong = PLACES[place](config(), replace_marker(DANGEROUS[danger], marker))
    alter(lambda content: content.update(model=wrong))(bundle)
    assert "cannot be loaded: " in refusal(bundle)
    assert not marker.exists()


@pytest.mark.parametrize("name", FILES[1:])
def test_damaged_bundle_is_refused_or_the_same(name: str, tmp_path: Path) -> None:
    bundle = shutil.copytree(GOLDEN_BUNDLE, tmp_path / "model")
    expected, valid = discrete_ae.load(bundle).model_hash, (bundle / name).read_bytes()

    @fuzzed
    @given(damaged([valid]))
    def load(content: bytes) -> None:
        (bundle / name).write_bytes(content)
        found = read_or_refused(lambda: discrete_ae.load(bundle), bundle)
        assert found is None or found.model_hash == expected  # the licence may differ

    load()
