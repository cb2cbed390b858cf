"""Checkpoints of a few bytes that ask for far more memory or time are refused in one line, before they get it."""

import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import discrete_ae
from discrete_ae.errors import DataError
from tests.models import save_checkpoint

Content = dict[str, Any]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt")


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        discrete_ae.load(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    assert len(message) < 300
    return message


def doubled(part: object, times: int = 20) -> object:
    """A part that is named 2^times times, in `times` dicts."""
    for _ in range(times):
        part = {"a": part, "b": part}
    return part


def model_of(content: Content) -> Content:
    return content["discrete_ae"]["model"]


def put_bias(content: Content, bias: torch.Tensor) -> None:
    content["state_dict"]["model.to_latents.bias"] = bias


def all_of_one_number(content: Content) -> None:
    # A model of 800 MB whose tensors have the shapes that it wants.
    for coder in ("encoder", "decoder"):
        model_of(content)[coder]["dim"] = 2**12
    with torch.device("meta"):
        outline = discrete_ae.build.build_model(model_of(content))
    content["state_dict"] = {
        f"model.{name}": torch.zeros(1).expand(like.shape) for name, like in outline.state_dict().items()
    }


def entropy_of_one_number(content: Content) -> None:
    content["discrete_ae"]["entropy_model"] = {"codebook_sizes": torch.full((1,), 2).expand(10**6)}


def views_of_one_tensor(content: Content) -> None:
    one = torch.zeros(10**4)
    content["state_dict"] |= {f"model.{i}": one.view(-1) for i in range(100)}


HOSTILE: dict[str, tuple[Callable[[Content], object], str]] = {
    "tensors of stride 0": (all_of_one_number, "its tensors claim"),
    "one number viewed as many, for the entropy model": (entropy_of_one_number, "its tensors claim"),
    "no elements, and a huge shape": (lambda c: put_bias(c, torch.zeros(2**40, 0)), "its tensors claim"),
    "many views of one tensor": (views_of_one_tensor, "its tensors claim"),
    "outside of the model": (
        lambda c: c.update(optimizer_states=[{"state": {0: torch.zeros(1).expand(10**9)}}]),
        "its tensors claim",
    ),
    "on no device": (lambda c: put_bias(c, torch.zeros(10**9, device="meta")), "not a checkpoint of discrete-ae"),
    "an argument named exponentially often": (
        lambda c: model_of(c)["encoder"].update(extra=doubled(1)),
        "has more than",
    ),
    "components named exponentially often": (
        lambda c: model_of(c)["quantizer"].update(
            rounding=doubled({"_target_": "discrete_ae.rounding.StraightThrough"})
        ),
        "has more than",
    ),
    "a model that holds itself": (lambda c: model_of(c).update(encoder=model_of(c)), "cannot be loaded"),
    "a dimension of billions": (lambda c: model_of(c)["encoder"].update(dim=10**9), "dim: expected at most"),
    "a model larger than its tensors": (
        lambda c: model_of(c)["encoder"].update(dim=2**20),
        "expected shape (1048576",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_checkpoint_is_refused(case: str, checkpoint: Path, tmp_path: Path) -> None:
    change, reason = HOSTILE[case]
    content, path = torch.load(checkpoint, weights_only=True), tmp_path / "hostile.ckpt"
    change(content)
    torch.save(content, path)
    assert path.stat().st_size < 2**18
    assert reason in refusal(path)


def repacked(path: Path, target: Path, compression: int, pickled: bytes | None = None) -> Path:
    """Write the entries of an archive again, compressed, or with another pickle."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w", compression) as new:
        for name in archive.namelist():
            new.writestr(name, pickled if pickled and name.endswith("data.pkl") else archive.read(name))
    return target


def test_compressed_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    same = repacked(checkpoint, tmp_path / "same.ckpt", zipfile.ZIP_STORED)
    assert discrete_ae.load(same).model_hash == discrete_ae.load(checkpoint).model_hash
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "zeros": torch.zeros(10**6)}, tmp_path / "large.ckpt")
    bomb = repacked(tmp_path / "large.ckpt", tmp_path / "bomb.ckpt", zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**18
    assert "expected an archive of torch.save" in refusal(bomb)


@pytest.mark.parametrize(
    "pickled",
    [
        # bytearray(2**20); a text written in hexadecimal again and again, twice as long each time.
        b"\x80\x02cbuiltins\nbytearray\nJ\0\0\x10\0\x85R.",
        b"\x80\x02" + b"c_codecs\nencode\n" * 9 + b"X\1\0\0\0aX\5\0\0\0ascii\x86R" + b"X\3\0\0\0hex\x86R" * 8 + b".",
    ],
)
def test_pickle_that_makes_room_is_refused_unread(pickled: bytes, checkpoint: Path, tmp_path: Path) -> None:
    path = repacked(checkpoint, tmp_path / "room.ckpt", zipfile.ZIP_STORED, pickled)
    torch.load(path, weights_only=True)  # PyTorch does what it says
    assert "not a checkpoint of discrete-ae: it holds" in refusal(path)


def test_plain_data_and_tensors_that_a_module_has_twice_are_read(checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    twice = {name.replace("model.", "average."): tensor for name, tensor in content["state_dict"].items()}
    content["state_dict"] |= twice
    content["plain"] = [{1, 2}, Counter(a=1), torch.Size([3]), torch.float32, 1j, None, "text"]  # as of callbacks
    torch.save(content, tmp_path / "twice.ckpt")
    assert discrete_ae.load(tmp_path / "twice.ckpt").model_hash == discrete_ae.load(checkpoint).model_hash
