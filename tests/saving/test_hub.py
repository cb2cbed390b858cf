"""Models to a hub and back, against a stand-in for it: the files of a bundle alone, and every refusal in a line."""

import json
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import soundfile
import torch
import yaml
from huggingface_hub import constants

import discrete_ae
from discrete_ae.evaluation.pretrained import is_tokenizer
from discrete_ae.evaluation.results import run_of
from discrete_ae.saving.hub import uploaded
from tests.models import save_checkpoint
from tests.saving.hub_stand_in import TOKEN, Hub, Repository

# Of huggingface_hub's own way to send a large file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")
BUNDLE = {"README.md", "config.json", "model.safetensors"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub without models, which knows the user."""
    server = Hub()
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": True,  # another protocol, to other servers
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt")


@pytest.fixture
def bundle(checkpoint: Path, tmp_path: Path, command: Callable) -> Path:
    assert command("export", checkpoint, "-o", tmp_path / "model", "--licence", "mit")[0] == 0
    return tmp_path / "model"


def held(bundle: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def test_a_bundle_goes_up_and_comes_back_as_it_was(hub: Hub, bundle: Path, checkpoint: Path, command: Callable) -> None:
    assert command("push", bundle, "me/codec", "--message", "as the test has it") == (0, [f"{hub.url}/me/codec"], [])
    assert hub.repositories["me/codec"].files == held(bundle)
    assert hub.repositories["me/codec"].messages == ["as the test has it"]
    assert not hub.repositories["me/codec"].private
    audio = torch.randn(1, 1, 3200, generator=torch.Generator().manual_seed(0))
    found, own = discrete_ae.load("hf:me/codec"), discrete_ae.load(checkpoint)
    assert found.model_hash == own.model_hash
    assert torch.equal(found.decode(found.encode(audio)), own.decode(own.encode(audio)))


def test_it_serves_wherever_a_checkpoint_does(
    hub: Hub, bundle: Path, recordings: Path, command: Callable, tmp_path: Path
) -> None:
    hub.repositories["me/codec"] = Repository(private=True)
    hub.repositories["me/codec"].commit(held(bundle), "")
    name, codes = "hf:me/codec", tmp_path / "x.npz"
    assert command("encode", recordings / "clip_0.wav", "-o", codes, "-c", name)[::2] == (0, [])
    assert command("decode", codes, "-o", tmp_path / "x.wav", "-c", bundle)[::2] == (0, [])
    assert command("export", name, "-o", tmp_path / "again", "--licence", "mit")[0] == 0
    assert held(tmp_path / "again").keys() == BUNDLE
    status, out, _ = command("info", name)
    assert status == 0
    assert any(discrete_ae.load(bundle).model_hash in line for line in out)


def test_it_is_evaluated_as_ours_and_as_no_tokenizer(hub: Hub, bundle: Path, command: Callable, tmp_path: Path) -> None:
    uploaded(bundle, "ann/speech")
    assert not is_tokenizer("hf:ann/speech")  # by its config.json, the only file that is downloaded
    assert huggingface_hub.try_to_load_from_cache("ann/speech", "config.json")
    assert is_tokenizer("hf:ann/other")
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(16000) / 10) / 2, 16000)
    of_hub, of_folder = (
        [
            line
            for line in command("evaluate", tmp_path / "a.wav", "-c", model, "--metrics", "si_sdr_db")[1]
            if "dB" in line
        ]
        for model in ("hf:ann/speech", bundle)
    )
    assert of_hub[0] == of_folder[0]


def test_a_model_of_the_hub_is_of_no_run_even_within_the_folder_of_one(
    ste_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ste_run)
    assert run_of(Path("checkpoints/last.ckpt")) is not None
    assert run_of(Path("hf:me/codec")) is None


def test_a_new_run_begins_with_it(
    hub: Hub, ste_run: Path, run_training: Callable, command: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    assert command("export", ste_run / "checkpoints" / "last.ckpt", "-o", tmp_path / "model")[0] == 0
    hub.repositories["me/codec"] = Repository()
    sha = hub.repositories["me/codec"].commit(held(tmp_path / "model"), "")
    run = run_training("trainer.max_steps=1", "optim.optimizer.lr=0", f"init_from=hf:me/codec@{sha}")
    assert "HTTP" not in capfd.readouterr().err
    found, own = (discrete_ae.load(of / "checkpoints" / "last.ckpt") for of in (run, ste_run))
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in own.state_dict().items())


def test_files_of_a_bundle_alone_are_downloaded_and_replaced(hub: Hub, bundle: Path, command: Callable) -> None:
    others = {"pytorch_model.bin": pickle.dumps(print), "code.py": b"raise", "more/config.json": b"{}"}
    repository = hub.repositories["me/codec"] = Repository()
    first = repository.commit({**others, **held(bundle), "entropy.safetensors": b"of a model before"}, "")
    assert command("push", bundle, "hf:me/codec")[0] == 0
    assert repository.files == others | held(bundle)
    folder = Path(huggingface_hub.snapshot_download("me/codec", local_files_only=False, allow_patterns=["none"]))
    discrete_ae.load("hf:me/codec")
    assert {path.name for path in folder.rglob("*") if path.is_file()} == BUNDLE
    assert not [asked for asked in hub.asked if "resolve" in asked and any(name in asked for name in others)]
    # Of another revision, which has an entropy model that is none.
    status, _, (line,) = command("info", f"hf:me/codec@{first}")
    assert (status, "entropy.safetensors: not a file of tensors" in line) == (1, True)


def test_what_was_downloaded_serves_without_a_network(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["me/codec"] = Repository()
    hub.repositories["me/codec"].commit(held(bundle), "")
    before = discrete_ae.load("hf:me/codec")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")  # where nobody listens
    assert discrete_ae.load("hf:me/codec").model_hash == before.model_hash


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("hf:me/nothing", 1, "hf:me/nothing: no such model on the hub, or the model is private; check the name"),
        ("hf:me/secret", 1, "hf:me/secret: no such model on the hub, or the model is private"),
        ("hf:me/codec@v9", 1, "hf:me/codec@v9: the model has no such revision"),
        ("hf:me/codec", 1, "got a folder without config.json"),
        ("hf:", 2, "hf:: expected user/model or user/model@revision"),
        ("hf:a/b/c", 2, "hf:a/b/c: expected user/model or"),
        ("hf:../../etc", 2, "hf:../../etc: expected user/model or"),
    ],
)
def test_what_cannot_be_downloaded_is_one_line(
    name: str, status: int, told: str, hub: Hub, command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories |= {"me/secret": Repository(private=True), "me/codec": Repository()}
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    found, out, (line,) = command("info", name)
    assert (found, out) == (status, [])
    assert line.startswith("error: ")
    assert told in line


@pytest.mark.parametrize("arguments", [("encode", "{}/clip_0.wav", "-o", "out", "-c"), ("info",)])
def test_a_tokenizer_of_transformers_is_referred_to_the_commands_that_take_it(
    hub: Hub,
    recordings: Path,
    command: Callable,
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = b'{"model_type": "encodec", "architectures": ["EncodecModel"]}'
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer/config.json").write_bytes(config)
    hub.repositories["me/encodec"] = Repository()
    hub.repositories["me/encodec"].commit({"config.json": config, "model.safetensors": b""}, "")
    monkeypatch.chdir(tmp_path)
    for name in ("hf:tokenizer", f"hf:{tmp_path}/tokenizer", "tokenizer", "hf:me/encodec"):
        status, _, (line,) = command(*(part.format(recordings) for part in arguments), name)
        assert (status, line.startswith("error: ")) == (1, True)
        assert "tokenizer of transformers; only evaluate and compare take a tokenizer" in line, line


def test_neither_a_package_nor_a_network_is_one_line(
    hub: Hub, bundle: Path, command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    for given in (("info", "hf:me/codec"), ("push", bundle, "me/codec")):
        status, _, (line,) = command(*given)
        assert (status, "me/codec: the hub cannot be reached" in line) == (1, True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for given in (("info", "hf:me/codec"), ("push", bundle, "me/codec")):
        status, _, (line,) = command(*given)
        assert (
            status,
            line.endswith("me/codec: huggingface_hub is not installed; pip install 'discrete-ae[hub]'"),
        ) == (2, True)


def test_what_cannot_be_uploaded_is_one_line(
    hub: Hub, bundle: Path, checkpoint: Path, command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["me/public"] = Repository()
    (bundle / "encoder.pt2").write_bytes(b"")
    assert "encoder.pt2 contains a pickle" in command("push", bundle, "me/codec")[2][0]
    (bundle / "encoder.pt2").unlink()
    assert "already exists and is public" in command("push", bundle, "me/public", "--private")[2][0]
    assert hub.repositories["me/public"].files == {}
    assert "expected a model" in command("push", bundle.parent, "me/codec")[2][0]
    assert "without config.json" in command("push", checkpoint, "me/codec")[2][0]
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    status, _, (line,) = command("push", bundle, "me/codec")
    assert status == 1
    assert line == "error: me/codec: the hub denies access; log in with a token that has write access: hf auth login"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert command("push", bundle, "me/hidden", "--private")[0] == 0
    assert hub.repositories["me/hidden"].private


def test_card_says_to_a_hub_what_was_measured(checkpoint: Path, command: Callable, tmp_path: Path) -> None:
    pesq = [1.25, 2.0, 2.25]  # their mean is 5.5 / 3, 1.83
    evaluation = {
        "format": "discrete-ae evaluation",
        "version": 1,
        "codec": "best.ckpt",
        "sample_rate": 16000,
        "model_hash": discrete_ae.load(checkpoint).model_hash,
        "overall": {"nominal_bitrate_bps": 3200, "usage": 0.5},
        "files": [
            {"path": f"{i}.wav", "duration_s": 2.0, "scores": {"pesq": score, "stoi": None}}
            for i, score in enumerate(pesq)
        ],
    }
    path = tmp_path / "clean-speech.json"
    path.write_text(json.dumps(evaluation))
    given = ("export", checkpoint, "-o", tmp_path / "model", "--dataset", "me/speech", "--results", path)
    assert command(*given)[0] == 0
    card = huggingface_hub.ModelCard.load(tmp_path / "model" / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag, card.data.license) == (
        "discrete-ae",
        "audio-to-audio",
        "unknown",
    )
    assert card.data.datasets == ["me/speech"]
    measured = {(one.dataset_name, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert measured == {("clean-speech", "pesq"): 1.83, ("clean-speech", "nominal_bitrate_bps"): 3200}
    assert card.data.model_name == "model"
    assert "On clean-speech, 3 recordings of 6 s" in card.content
    assert "| PESQ | 1.83 |" in card.content
    front = yaml.safe_load(card.content.split("---\n")[1])
    assert front["model-index"][0]["results"][0]["task"] == {"type": "audio-to-audio"}
    path.write_text(json.dumps(evaluation | {"model_hash": "0" * 64}))
    status, _, (line,) = command(*given, "--force")
    assert status == 1
    assert all(words in line for words in ("clean-speech.json: ", "another model (000000000000)"))
