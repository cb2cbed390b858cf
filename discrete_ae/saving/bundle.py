"""Bundles: a model as a folder with `model.safetensors`, `config.json` and a model card, for publication. No pickle.

config.json:
    schema_version, model, model_hash, scheduled: the same fields as in a checkpoint (`saved.py`); `model` builds the
        model.
    licence: the licence given by the author, or null.
    entropy_model: fingerprint of the model in entropy.safetensors; null if there is no such file.
    about: facts for other programs, not read here: `sample_rate` and `frame_rate_hz` in Hz, `channels`, `hop_length` in
        samples, `codebook_sizes`, `bitrate_bps` (nominal, null without codes), `parameters`.

A bundle may come from an untrusted source: memory is bounded by the size of its files, and nothing in it is executed.
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
"""Name of the task on model hubs."""
UNKNOWN = "not stated"
LARGEST_CONFIG = 2**18  # bytes; the shipped models have about 2000

Extra = Callable[[Path], str]
"""Function that writes more files, each named in PROGRAMS, into a folder, and returns a paragraph for the card."""


class BundleConfig(ModelRecord):
    """Fields of config.json that are read."""

    entropy_model: str | None = None


class _TransformersConfig(Record):
    """The field of config.json that identifies a model of transformers."""

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
    """Write a bundle, whole or not at all, and return the names of its files.

    Args:
        target: the new folder.
        saved: the model to save.
        model: the same model, built, on the CPU.
        licence: licence of the weights, as the author names it.
        trained_on: description of the training recordings, for the card; None for "not stated".
        datasets: names, on the hub, of data sets among the training recordings.
        results: measurements, as entries of `model-index` in the card.
        extras: functions that write more files.
        overwrite: True to replace a bundle at `target`; a folder with any other file is never replaced.

    Raises:
        OSError: the folder cannot be written.
        DataError: the folder already exists and is not replaced, or an extra fails.
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
    """Read the model of a bundle without executing any of its contents.

    Raises:
        OSError: a file cannot be read.
        DataError: a file is missing or damaged, or comes from another program or an unknown version.
    """
    folder = Path(folder)
    refuse_tokenizer(folder, folder)
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder}: expected a model, got a folder without {name}; give best.ckpt or last.ckpt of a run, or a "
                "folder written by discrete-ae export"
            )
    # Checked before reading: the text may come from an untrusted source.
    if (folder / CONFIG).stat().st_size > LARGEST_CONFIG:
        raise DataError(f"{folder / CONFIG}: expected at most {LARGEST_CONFIG} bytes; export the model again")
    config = BundleConfig.read(folder / CONFIG, "export the model again, or update discrete-ae")
    arrays = _read_tensors(folder / ENTROPY) if (folder / ENTROPY).exists() else None
    saved = saved_model(folder, config, _read_tensors(folder / TENSORS), arrays)
    if config.entropy_model != (saved.entropy_model.fingerprint if saved.entropy_model else None):
        raise DataError(f"{folder}: {ENTROPY} is missing, damaged or from another model; use another copy")
    return saved


def refuse_tokenizer(folder: Path, given: str | Path) -> None:
    """Reject a folder that holds a model of transformers.

    Args:
        folder: any folder, which need not exist.
        given: name of the folder for the message.

    Raises:
        DataError: the folder's config.json describes a model of transformers.
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
        "a tokenizer, as hf:FOLDER or hf:NAME"
    )


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    # Copies, since safetensors rejects tensors that share memory.
    whole = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    # Not save_file, which writes files that only the owner may read.
    path.write_bytes(save(whole, metadata={"format": "pt"}))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # for damaged bytes, safetensors and PyTorch raise almost any error
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

Install the package discrete-ae. Below, `model` stands for the path of this folder, or for its name on a hub,
`hf:user/model`:

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
    """Return the model card: facts in Markdown, with the front matter for model hubs."""
    summary = summarize(model)
    facts = [
        *(
            (part, str(saved.config[part]["_target_"]).rpartition(".")[2])
            for part in ("encoder", "quantizer", "decoder")
        ),
        *summary.rows(),
        ("parameters", f"{summary.total.parameters:,}"),
        ("weights", " and ".join(sorted({str(each.dtype).removeprefix("torch.") for each in saved.state.values()}))),
        ("entropy model", f"in {ENTROPY}" if saved.entropy_model else "none"),
        ("training data", trained_on or UNKNOWN),
        ("licence", licence or UNKNOWN),
    ]
    table = ["| | |", "| --- | --- |", *(f"| {name} | {_cell(value)} |" for name, value in facts)]
    parts = [
        # JSON strings are valid YAML; the quotes ensure that any licence is read as text.
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
