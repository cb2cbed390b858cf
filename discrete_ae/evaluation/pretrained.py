"""Load audio tokenizers of the package transformers, by name from the user's cache or from a folder.

Weights are read as safetensors. Nothing is downloaded or unpickled, and a model's own code is never run.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.tokenizers import Tokenizer, in_one_line
from discrete_ae.saving.hub import PREFIX, holds_bundle, is_on_hub
from discrete_ae.saving.saved import model_hash

INSTALL = "pip install 'discrete-ae[codecs]'"


def is_tokenizer(given: object) -> bool:
    """Return whether a model argument names a tokenizer of transformers, rather than a bundle on the hub.

    A folder after hf: holds a tokenizer. Of a repository, config.json decides; if it cannot be had, return True, and
    `load_tokenizer` then reports it.
    """
    if not is_on_hub(given):
        return False
    if Path(str(given).removeprefix(PREFIX)).expanduser().is_dir():
        return True
    try:
        return not holds_bundle(str(given))
    except (DataError, UsageError):
        return True


def load_tokenizer(given: str, device: str = "cpu") -> Tokenizer:
    """Load a tokenizer of transformers from a folder, or by its name from the user's cache.

    Args:
        given: name or folder after hf:, such as "hf:facebook/encodec_24khz" or "hf:folder".
        device: device to run it on.

    Raises:
        UsageError: the package transformers is not installed, or nothing follows hf:.
        DataError: the tokenizer is missing or cannot be used.
    """
    try:
        import transformers
    except ImportError as error:
        raise UsageError(f"{given}: needs the package transformers; {INSTALL}") from error
    if not (name := given.removeprefix(PREFIX)):
        raise UsageError(f"{given}: expected a folder or a name after hf:, such as hf:facebook/encodec_24khz")
    folder = Path(name).expanduser()
    place = str(folder) if folder.is_dir() else name
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with _quiet(transformers):
        try:
            said, _ = transformers.PreTrainedConfig.get_config_dict(place, local_files_only=True)
        except Exception as error:
            is_here = (folder / "config.json").is_file()
            what = (
                "its config.json cannot be read" if is_here else "is neither a model folder nor in Hugging Face's cache"
            )
            raise DataError(
                f"{given}: {what}; for a model of discrete-ae on the hub, check its name and the network; for a "
                "tokenizer, give a model folder, or run: hf download NAME"
            ) from error
        kind = said.get("model_type")
        if kind is None and "schema_version" in said:
            raise DataError(
                f"{given}: is a bundle of discrete-ae, not a tokenizer of transformers; give its folder without hf:"
            )
        if kind not in transformers.CONFIG_MAPPING:
            raise DataError(
                f"{given}: transformers {version('transformers')} does not support models of type {kind}, and a "
                "model's own code is not run; give another tokenizer"
            )
        if folder.is_dir() and not any(folder.glob("*.safetensors")):
            raise DataError(
                f"{given}: has no safetensors weights, and pickled weights are not read; save it again with "
                "save_pretrained of a transformers version that writes safetensors"
            )
        with in_one_line(given, "its preprocessor_config.json cannot be used", "give the folder of an audio tokenizer"):
            extractor = transformers.AutoFeatureExtractor.from_pretrained(place, **local)
        with in_one_line(given, "its model cannot be loaded", "give the folder of an audio tokenizer"):
            model, loading = transformers.AutoModel.from_pretrained(
                place,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # transformers' own error is too vague; a clearer one is raised below
                **local,
            )
    lacking = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
    if lacking:
        count = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise DataError(
            f"{given}: its weights do not fit its config.json, such as {min(lacking)}{count}; download both again"
        )
    label = folder.resolve().name if folder.is_dir() else folder.name
    return Tokenizer(given, label, model, extractor, model_hash(model.state_dict(), said), device)


def load_tokenizers(given: Sequence[str], device: str) -> list[Tokenizer]:
    """Load several tokenizers by `load_tokenizer`; repeated labels get numbers."""
    found = [load_tokenizer(one, device) for one in given]
    labels: Counter[str] = Counter()
    for tokenizer in found:
        labels[tokenizer.label] += 1
        if (number := labels[tokenizer.label]) > 1:
            tokenizer.label += f" ({number})"
    return found


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Disable progress bars and logging of transformers."""
    logging = transformers.utils.logging
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
