"""Checkpoint to model: the same model comes back, and a file that is not what it should be is refused, unexecuted."""

import copy
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import discrete_ae
from discrete_ae.build import build_model
from discrete_ae.cli.overrides import built, compose_config
from discrete_ae.errors import DataError, UsageError
from discrete_ae.training import TrainingRun, parts, run, typed_config
from tests.models import config, save_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt")


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def named_hash(content: dict[str, Any]) -> str:
    """The model hash as model_hash documents it, from the file alone."""
    tensors = {name: tensor for name, tensor in content["state_dict"].items() if name.startswith("model.")}
    told = hashlib.sha256()
    for name, values in sorted((name.removeprefix("model."), t.float().numpy()) for name, t in tensors.items()):
        told.update(f"{name} {values.shape}\n".encode() + values.astype("<f4").tobytes())
    told.update(json.dumps(content["discrete_ae"]["model"], sort_keys=True, separators=(",", ":")).encode())
    return told.hexdigest()


def test_loaded_model_is_the_trained_one(
    run_training: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs: list[TrainingRun] = []
    build = run.build_training
    monkeypatch.setattr(run, "build_training", lambda *given: (runs.append(build(*given)), runs[-1])[1])
    folder = run_training("trainer.max_steps=2", "trainer.val_check_interval=2", "quantizer=gumbel")
    trained = runs[0].module.model.eval()
    audio = torch.randn(2, 1, 3333, generator=torch.Generator().manual_seed(0))
    for name in ("last.ckpt", "best.ckpt"):
        loaded = discrete_ae.load(folder / "checkpoints" / name)
        assert isinstance(loaded, discrete_ae.DiscreteAutoencoder)
        assert not any(part.training for part in loaded.modules())
    loaded = discrete_ae.load(folder / "checkpoints" / "last.ckpt")
    with torch.no_grad():
        expected, found = trained(audio), loaded(audio)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.reconstruction, expected.reconstruction)
    assert torch.equal(loaded.decode(loaded.encode(audio), 3333), expected.reconstruction)


def test_hash_is_the_one_that_design_defines_and_depends_on_weights_and_configuration(
    ste_run: Path, tmp_path: Path
) -> None:
    path = ste_run / "checkpoints" / "last.ckpt"
    assert discrete_ae.load(path).model_hash == named_hash(read(path)) == read(path)["discrete_ae"]["model_hash"]
    hashes = [
        discrete_ae.load(save_checkpoint(tmp_path / "x.ckpt", **settings)).model_hash
        for settings in ({}, {}, {"seed": 1}, {"sample_rate": 8000})
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


# What each refused target would do if it were called: make the file MARKER.
DANGEROUS = {
    "os.system": {"_target_": "os.system", "command": "touch MARKER"},
    "os.system, with its argument by position": {"_target_": "os.system", "_args_": ["touch MARKER"]},
    "builtins.eval": {"_target_": "builtins.eval", "_args_": ["open('MARKER', 'w')"]},
    "a module seen from the package": {"_target_": "discrete_ae.rounding.torch.load", "f": "MARKER"},
    "a function of the package": {"_target_": "discrete_ae.build.load", "path": "MARKER"},
    "a function that writes": {"_target_": "discrete_ae.writing.write_whole", "target": "MARKER", "content": b"x"},
    "a module": {"_target_": "discrete_ae.rounding.math"},
    "a class of another package": {"_target_": "discrete_ae.data.files.Path", "_args_": ["MARKER"]},
    "a base of another package": {"_target_": "discrete_ae.rounding.nn.Identity"},
    "torch's class, seen from the package": {"_target_": "discrete_ae.rounding.ABC"},
    "a class that is no component": {"_target_": "discrete_ae.losses.WaveformL1"},
    "an abstract class": {"_target_": "discrete_ae.rounding.Rounding", "hard": True},
    "no such class": {"_target_": "discrete_ae.rounding.Nothing"},
    "no such module": {"_target_": "discrete_ae.nothing.Nothing"},
    "a package of a similar name": {"_target_": "discrete_ae_evil.Model"},
    "the package": {"_target_": "discrete_ae"},
    "dots": {"_target_": "discrete_ae..rounding.StraightThrough"},
    "a relative name": {"_target_": ".rounding.StraightThrough"},
    "a null byte": {"_target_": "discrete_ae.rounding\0.StraightThrough"},
    "nothing": {"_target_": ""},
    "a number": {"_target_": 3},
    "a list": {"_target_": ["os.system"]},
    "none": {"_target_": None},
}
BIAS = "model.to_latents.bias"
PLACES: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "the model": lambda saved, wrong: wrong,
    "a part": lambda saved, wrong: saved | {"encoder": wrong},
    "a part of a part": lambda saved, wrong: saved | {"quantizer": saved["quantizer"] | {"rounding": wrong}},
    "a list": lambda saved, wrong: saved | {"quantizer": saved["quantizer"] | {"levels": [4, wrong]}},
    "a dict without a target": lambda saved, wrong: saved | {"encoder": {"inner": wrong}},
}


def replace_marker(value: Any, marker: Path) -> Any:
    if isinstance(value, dict):
        return {name: replace_marker(inner, marker) for name, inner in value.items()}
    if isinstance(value, list):
        return [replace_marker(inner, marker) for inner in value]
    return value.replace("MARKER", str(marker)) if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("danger", "place"),
    [*((danger, "a part of a part") for danger in DANGEROUS), *(("os.system", place) for place in PLACES)],
)
def test_only_components_are_built(danger: str, place: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    wrong = PLACES[place](config(), replace_marker(DANGEROUS[danger], marker))
    with pytest.raises(UsageError, match=r"refused|abstract"):
        build_model(wrong)
    assert not marker.exists()


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = "from discrete_ae.quantizers import IdentityQuantizer\nclass Own(IdentityQuantizer): pass\n"
    texts = {
        "sound": quantizer,
        "lacking": "import nothing_there\n",
        "unfinished": "class Own(\n",
        "odd": "{}['key']\n",
    }
    for name, text in texts.items():
        (tmp_path / f"own_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("own_sound.Typo", "module 'own_sound' has no attribute 'Typo'"),
        ("own_absent.Own", "No module named 'own_absent'"),
        ("own_lacking.Own", "No module named 'nothing_there'"),
        ("own_unfinished.Own", "SyntaxError: .*own_unfinished.py, line 1"),
        ("own_odd.Own", "KeyError: 'key'"),
    ],
)
def test_a_class_of_ones_own_that_cannot_be_had_is_refused_with_the_reason(target: str, reason: str) -> None:
    for check in (compose_and_build, compose_and_type):
        with pytest.raises(
            UsageError, match=rf"^_target_ '{target}' is refused: it cannot be imported: .*{reason}"
        ) as refused:
            check([f"quantizer._target_={target}"])
        assert "\n" not in str(refused.value)


def compose_and_build(overrides: list[str]) -> None:
    built(compose_config(overrides))


def compose_and_type(overrides: list[str]) -> None:
    typed_config(OmegaConf.masked_copy(compose_config(overrides), ["model", "quantizer"]))


def test_what_is_no_component_is_refused_before_its_arguments() -> None:
    for check in (compose_and_build, compose_and_type):
        for target in ("os.system", "torch.nn.Identity", "ste", "discrete_ae.losses.WaveformL1"):
            with pytest.raises(UsageError, match=f"^_target_ '{target}' is refused: expected a model, .* class"):
                check([f"quantizer._target_={target}"])


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("own_absent", "expected a module that can be imported, got .*No module named 'own_absent'"),
        ("own_sound.Own", "expected a module, .* give own_sound$"),
        ("own_unfinished", "expected a module that can be imported, got SyntaxError"),
        ("", "expected a module"),
    ],
)
def test_trust_in_what_is_no_module_is_refused(name: str, told: str, checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=f"^--trust {name}: {told}"):
        discrete_ae.load(checkpoint, trust=["own_sound", name])


def test_a_checkpoint_imports_nothing_that_is_not_trusted(checkpoint: Path, tmp_path: Path, own_modules: None) -> None:
    content = read(checkpoint)
    content["discrete_ae"]["model"]["quantizer"] = {"_target_": "own_sound.Own", "dim": 4}
    sys.modules.pop("own_sound", None)
    for trust in ([], ["json"]):
        with pytest.raises(DataError, match=r"_target_ 'own_sound\.Own' is refused"):
            discrete_ae.load(save(content, tmp_path / "own.ckpt"), trust=trust)
    assert "own_sound" not in sys.modules


@pytest.mark.parametrize("place", ["the model", "a part of a part"])
def test_checkpoint_naming_something_else_is_refused(place: str, checkpoint: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content = read(checkpoint)
    content["discrete_ae"]["model"] = PLACES[place](config(), replace_marker(DANGEROUS["os.system"], marker))
    content["discrete_ae"]["model_hash"] = named_hash(content)  # so that nothing else is wrong with it
    assert_refused(save(content, tmp_path / "evil.ckpt"), "is refused")
    assert not marker.exists()


@pytest.mark.parametrize("key", ["_partial_", "_args_", "_convert_", "unknown", "__class__"])
def test_arguments_that_a_component_does_not_take_are_refused(key: str) -> None:
    # Hydra gives some of these keys a meaning; here they are arguments that no component has.
    for place in (lambda c: c, lambda c: c["quantizer"], lambda c: c["quantizer"]["rounding"]):
        wrong = copy.deepcopy(config())
        place(wrong)[key] = True
        with pytest.raises(UsageError):
            build_model(wrong)


def test_a_component_that_is_no_autoencoder_is_refused() -> None:
    with pytest.raises(UsageError, match="expected the configuration of a DiscreteAutoencoder"):
        build_model(config()["quantizer"])


class Evil:
    """Unpickles to the call of os.system."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.system, (f"touch {self.marker}",)


def test_pickle_that_would_run_a_command_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = save({**read(checkpoint), "callbacks": Evil(marker)}, tmp_path / "evil.ckpt")
    assert_refused(path, "not a checkpoint of discrete-ae")
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file is as evil as it should be
    assert marker.exists()


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(DataError) as refused:
        discrete_ae.load(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


NO_CHECKPOINTS = [
    *(b"no checkpoint", b"\0" * 100, bytes(range(256)), b".", b"0."),
    *(3, [], {}, {"state_dict": {"weight": torch.ones(3)}}, {"state_dict": {}, "discrete_ae": None}),
    {"state_dict": {}, "discrete_ae": {"schema_version": 1}},
    {"state_dict": {}, "discrete_ae": {"schema_version": 1, "model": {}}},
    {"state_dict": {}, "discrete_ae": {"schema_version": 1, "model": [], "model_hash": "0"}},
]


@pytest.mark.parametrize("content", NO_CHECKPOINTS, ids=lambda content: str(content)[:40])
def test_file_of_another_kind_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else save(content, path)
    assert_refused(path, "not a checkpoint of discrete-ae")


def test_truncated_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    whole, path = checkpoint.read_bytes(), tmp_path / "cut.ckpt"
    for share in (0, 0.01, 0.99):
        size = int(share * len(whole))
        path.write_bytes(whole[:size])
        assert_refused(path, f"damaged, or truncated at {size} bytes")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({BIAS: lambda bias: bias + 1e-3}, "do not match its model hash"),
        ({"sample_rate": 8000}, "do not match its model hash"),  # builds, and fits all tensors
        ({BIAS: lambda bias: bias[:-1]}, "cannot be loaded: "),
        ({BIAS: lambda bias: "no tensor"}, "cannot be loaded: "),
        ({"model.another": lambda bias: torch.ones(1)}, "cannot be loaded: "),
    ],
)
def test_altered_checkpoint_is_refused(changes: dict, reason: str, checkpoint: Path, tmp_path: Path) -> None:
    content = read(checkpoint)
    for name, value in changes.items():
        if callable(value):
            content["state_dict"][name] = value(content["state_dict"][BIAS])
        elif name == "schema_version":
            content["discrete_ae"][name] = value
        else:
            content["discrete_ae"]["model"][name] = value
    assert_refused(save(content, tmp_path / "altered.ckpt"), reason)


def test_flipped_byte_in_any_tensor_is_noticed(checkpoint: Path, tmp_path: Path) -> None:
    # Without the archive's own checksums, which a rewritten file would have right.
    content = read(checkpoint)
    for tensor in (tensor for name, tensor in content["state_dict"].items() if name.startswith("model.")):
        last = tensor.view(-1)[-1:]
        before = last.clone()
        last.copy_(torch.nextafter(last, torch.tensor([torch.inf])))
        assert_refused(save(content, tmp_path / "altered.ckpt"), "do not match its model hash")
        last.copy_(before)


def test_what_an_optimizer_keeps_of_its_configuration_is_plain_data() -> None:
    # Adamax, and in older releases of PyTorch every Adam, keeps its betas as it is given them.
    node = {"_target_": "torch.optim.Adamax", "_partial_": True, "betas": [0.8, 0.9]}
    make_optimizer = parts._instantiate(OmegaConf.create({"optimizer": node}), "optimizer")
    optimizer = make_optimizer([torch.zeros(1, requires_grad=True)])
    stream = io.BytesIO()
    torch.save(optimizer.state_dict(), stream)
    stream.seek(0)
    assert torch.load(stream, weights_only=True)["param_groups"][0]["betas"] == [0.8, 0.9]
