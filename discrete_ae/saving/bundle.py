"""A model as a folder for others: `model.safetensors`, `config.json` and a model card. No pickle.

config.json:
    schema_version, model, model_hash, scheduled: what a checkpoint says of its model (`saved.py`); `model` builds it.
    licence: what the author said of it, or null.
    entropy_model: fingerprint of what is in entropy.safetensors, or null where there is no such file.
    about: for other readers, not read here: `sample_rate` and `frame_rate_hz` in Hz, `channels`, `hop_length` in
        samples, `codebook_sizes`, `bitrate_bps` (nominal, null without codes), `parameters`.

A bundle may come from anyone: what is read is bounded by the size of its files, and nothing in it is executed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from discrete_ae.errors import DataError
from discrete_ae.model.autoencoder import DiscreteAutoencoder
from discrete_ae.model.summary import summarize
from discrete_ae.records import Record
from discrete_ae.saving.saved import SCHEMA_VERSION, ModelRecord, SavedModel, saved_model
from discrete_ae.writing import whole_folder

CONFIG = "config.json"
TENSORS = "model.safetensors"
ENTROPY = "entropy.safetensors"
CARD = "README.md"
PROGRAMS = (
    *("encoder.onnx", "decoder.onnx", "encoder_step.onnx", "decoder_step.onnx"),
    *("encoder.pt2", "decoder.pt2"),
)
PIPELINE = "audio-to-audio"
"""What model hubs call the task."""
UNKNOWN = "not stated"
LARGEST_CONFIG = 2**18  # bytes; those of the shipped models have some 2000

Extra = Callable[[Path], str]
"""Writes more files into the folder that is being made, each named in PROGRAMS; returns a paragraph for the card."""


class BundleConfig(ModelRecord):
    """The fields of config.json that are read."""

    entropy_model: str | None = None


class _TransformersConfig(Record):
    """The field of config.json by which transformers knows its models."""

    model_type: str


def write_bundle(
    target: str | Path,
    saved: SavedModel,
    model: DiscreteAutoencoder,
    licence: str | None = None,
    *,
    trained_on: str | None = None,
    datasets: Sequence[str] = (),
    results: Sequence[Mapping[str, Any]] = (),
    extras: Sequence[Extra] = (),
    overwrite: bool = False,
) -> list[str]:
    """Write a bundle, whole or not at all; returns the names of its files.

    Args:
        target: the folder to be made.
        saved: what goes into it.
        model: the same, built, on the CPU.
        licence: of the weights, as the author names it.
        trained_on: the recordings, for the card; None for "not stated".
        datasets: those of a hub among them, by their names there.
        results: what was measured, as entries of `model-index` in the card.
        extras: write what else belongs in it.
        overwrite: whether a bundle at `target` is replaced; a folder with any other file in it never is.

    Raises:
        OSError: the folder cannot be written.
        DataError: the folder exists already; or what an extra raises.
    """
    config = {
        "schema_version": SCHEMA_VERSION,
        "model_hash": saved.model_hash,
        "licence": licence,
        "about": _about(model),
        "model": saved.config,
        "scheduled": saved.scheduled,
        "entropy_model": saved.entropy_model.fingerprint if saved.entropy_model else None,
    }
    with whole_folder(Path(target), (CONFIG, TENSORS, ENTROPY, CARD, *PROGRAMS), overwrite=overwrite) as folder:
        _write_tensors(saved.state, folder / TENSORS)
        if saved.entropy_model is not None:
            arrays = saved.entropy_model.to_arrays()
            _write_tensors({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / ENTROPY)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        paragraphs = [write(folder) for write in extras]
        facts = {
            "license": licence or "unknown",  # a name that hubs know
            "library_name": "discrete-ae",
            "pipeline_tag": PIPELINE,
            "tags": ["audio", "neural-codec", "discrete-ae"],
            **({"datasets": list(datasets)} if datasets else {}),
            **({"model-index": [{"name": Path(target).name, "results": list(results)}]} if results else {}),
        }
        card = _card(saved, model, facts, licence, trained_on, paragraphs)
        (folder / CARD).write_text(card, encoding="utf-8")
        return sorted(path.name for path in folder.iterdir())


def read_bundle(folder: str | Path) -> SavedModel:
    """Read the model of a bundle without executing anything that it names.

    Raises:
        OSError: a file cannot be read.
        DataError: a file is missing or damaged, or is not one of this program or of a version it knows.
    """
    folder = Path(folder)
    refuse_tokenizer(folder, folder)
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder}: is a folder without {name}, no model; give best.ckpt or last.ckpt of a run, or a folder "
                "that discrete-ae export wrote"
            )
    # Before it is read: it is text of anyone's making.
    if (folder / CONFIG).stat().st_size > LARGEST_CONFIG:
        raise DataError(f"{folder / CONFIG}: has more than {LARGEST_CONFIG} bytes; export the model again")
    config = BundleConfig.read(folder / CONFIG, "export the model again, or update discrete-ae")
    arrays = _read_tensors(folder / ENTROPY) if (folder / ENTROPY).exists() else None
    saved = saved_model(folder, config, _read_tensors(folder / TENSORS), arrays)
    if config.entropy_model != (saved.entropy_model.fingerprint if saved.entropy_model else None):
        raise DataError(f"{folder}: {ENTROPY} is missing, damaged or of another model; use another copy")
    return saved


def refuse_tokenizer(folder: Path, given: str | Path) -> None:
    """Refuse a folder of a model of transformers.

    Args:
        folder: of any kind, or missing.
        given: its name in the message.

    Raises:
        DataError: its config.json is one of transformers.
    """
    path = folder / CONFIG
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            return
        _TransformersConfig.parse(path.read_bytes())
    except (OSError, ValueError):
        return
    raise DataError(
        f"{given}: expected a model of discrete-ae, got a tokenizer of transformers; only evaluate and compare take "
        "one, as hf:FOLDER or hf:NAME"
    )


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    # Copies, since safetensors refuses tensors that share memory.
    whole = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    # Not save_file: nobody but the owner may read what that writes.
    path.write_bytes(save(whole, metadata={"format": "pt"}))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # damaged bytes may end in nearly any error of safetensors or of PyTorch
        raise DataError(f"{path}: not a file of tensors, or damaged; use another copy, or export again") from error


def _about(model: DiscreteAutoencoder) -> dict[str, Any]:
    sizes = list(model.quantizer.codebook_sizes)
    return {
        "sample_rate": model.sample_rate,
        "channels": model.channels,
        "hop_length": model.hop_length,
        "frame_rate_hz": model.frame_rate_hz,
        "codebook_sizes": sizes,
        "bitrate_bps": model.bitrate_bps if sizes else None,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


_USE = """## Use

With the package discrete-ae installed, and this folder as `model`, or its name on a hub, `hf:user/model`:

```python
import discrete_ae

model = discrete_ae.load("model")
codes = model.encode(audio)  # (batch, channels, samples) at the model's sample rate, to (batch, codebooks, frames)
audio = model.decode(codes)
```

```
discrete-ae info model
discrete-ae encode recordings -o codes -c model
discrete-ae decode codes -o decoded -c model
```"""


def _card(
    saved: SavedModel,
    model: DiscreteAutoencoder,
    front: Mapping[str, Any],
    licence: str | None,
    trained_on: str | None,
    paragraphs: Sequence[str],
) -> str:
    """The model card: Markdown with the front matter that model hubs read, of facts alone."""
    summary = summarize(model)
    facts = [
        *(
            (part, str(saved.config[part]["_target_"]).rpartition(".")[2])
            for part in ("encoder", "quantizer", "decoder")
        ),
        *summary.rows(),
        ("parameters", f"{summary.total.parameters:,}"),
        ("entropy model", f"in {ENTROPY}" if saved.entropy_model else "none"),
        ("training data", trained_on or UNKNOWN),
        ("licence", licence or UNKNOWN),
    ]
    table = ["| | |", "| --- | --- |", *(f"| {name} | {_cell(value)} |" for name, value in facts)]
    parts = [
        # In quotes as JSON has them, which are YAML too, so that no licence can be read as anything but a text.
        "\n".join(["---", *(f"{key}: {json.dumps(said, ensure_ascii=False)}" for key, said in front.items()), "---"]),
        "# Discrete audio autoencoder",
        "Turns audio into integer codes, and codes into audio.",
        "\n".join(table),
        _USE,
        *paragraphs,
        "## Configuration",
        f"```json\n{json.dumps(saved.config, indent=2)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
