"""The model card of a bundle: Markdown with the front matter that model hubs read, of facts alone.

What nobody said is "not stated".
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from discrete_ae.saving.saved import SavedModel

UNKNOWN = "not stated"


def model_card(
    saved: SavedModel,
    about: Mapping[str, Any],
    licence: str | None,
    trained_on: str | None,
    paragraphs: Sequence[str] = (),
) -> str:
    """Render the card.

    Args:
        saved: the model's configuration and hash.
        about: as `bundle.describe` gives it.
        licence: of the weights; None for "not stated".
        trained_on: the recordings; None for "not stated".
        paragraphs: of what else lies in the bundle.
    """
    # In quotes as JSON has them, which are YAML too, so that no licence can be read as anything but a text.
    front = {
        "license": licence or "unknown",  # a name that hubs know
        "library_name": "discrete-ae",
        "tags": ["audio", "neural-codec", "discrete-ae"],
    }
    lines = ["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in front.items()), "---", ""]
    lines += ["# Discrete audio autoencoder", "", "Turns audio into integer codes, and codes into audio.", ""]
    lines += [
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {_cell(value)} |" for name, value in _facts(saved, about, licence, trained_on)),
    ]
    lines += ["", *_USE, "", *(line for paragraph in paragraphs for line in (paragraph, ""))]
    lines += ["## Configuration", "", "```json", json.dumps(saved.config, indent=2), "```"]
    return "\n".join(lines) + "\n"


_USE = """## Use

With the package discrete-ae installed, and this folder as `model`:

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
```""".splitlines()


def _facts(
    saved: SavedModel, about: Mapping[str, Any], licence: str | None, trained_on: str | None
) -> list[tuple[str, str]]:
    sizes = about["codebook_sizes"]
    bitrate = about["bitrate_bps"]
    return [
        ("encoder", _class_name(saved.config, "encoder")),
        ("quantizer", _class_name(saved.config, "quantizer")),
        ("decoder", _class_name(saved.config, "decoder")),
        ("sample rate", f"{about['sample_rate']} Hz"),
        ("channels", str(about["channels"])),
        ("frames", f"{about['frame_rate_hz']:g} per second, of {about['hop_length']} samples"),
        ("codebooks", f"{len(sizes)}, of {', '.join(map(str, sorted(set(sizes))))} entries" if sizes else "none"),
        ("nominal bitrate", f"{bitrate / 1000:.3g} kbps" if bitrate is not None else "no limit"),
        ("parameters", f"{about['parameters']:,}"),
        ("entropy model", "in entropy.safetensors" if saved.entropy_model else "none"),
        ("training data", trained_on or UNKNOWN),
        ("licence", licence or UNKNOWN),
        ("model hash", saved.model_hash),
    ]


def _class_name(config: Mapping[str, Any], part: str) -> str:
    return str(config[part]["_target_"]).rpartition(".")[2]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
