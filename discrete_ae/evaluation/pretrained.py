"""Audio tokenizers of the package transformers, by name from the user's cache or from a folder.

Weights are read as safetensors: nothing is downloaded, nothing unpickled, and no code runs that comes with a model.
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
from discrete_ae.saving.hub import PREFIX, is_cached_bundle, is_on_hub
from discrete_ae.saving.saved import model_hash

INSTALL = "pip install 'discrete-ae[codecs]'"


def is_tokenizer(given: object) -> bool:
    """Return whether what was given in place of a model names a tokenizer of transformers, and no bundle of the hub."""
    return is_on_hub(given) and not is_cached_bundle(given)


def load_tokenizer(given: str, device: str = "cpu") -> Tokenizer:
    """Load a tokenizer of transformers from a folder, or by its name from the user's cache.

    Args:
        given: such as "hf:facebook/encodec_24khz" or "hf:folder".
        device: where it is to run.

    Raises:
        UsageError: the package transformers is not installed.
        DataError: there is no such tokenizer here, or it cannot be used.
    """
    try:
        import transformers
    except ImportError as error:
        raise UsageError(f"{given}: needs the package transformers; {INSTALL}") from error
    if not (name := given.removeprefix(PREFIX)):
        raise UsageError(f"{given}: expected a folder or a name after it, such as hf:facebook/encodec_24khz")
    folder = Path(name).expanduser()
    place = str(folder) if folder.is_dir() else name
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with _quiet(transformers):
        try:
            said, _ = transformers.PreTrainedConfig.get_config_dict(place, local_files_only=True)
        except Exception as error:
            is_here = (folder / "config.json").is_file()
            what = (
                "its config.json cannot be read" if is_here else "is no folder of a model, nor in Hugging Face's cache"
            )
            raise DataError(f"{given}: {what}; give the folder of one, or type: hf download NAME") from error
        kind = said.get("model_type")
        if kind is None and "schema_version" in said:
            raise DataError(
                f"{given}: a bundle of discrete-ae, no tokenizer of transformers; give its folder without hf:"
            )
        if kind not in transformers.CONFIG_MAPPING:
            raise DataError(
                f"{given}: transformers {version('transformers')} knows no models of type {kind}, and code that comes "
                "with a model is not run; give another tokenizer"
            )
        if folder.is_dir() and not any(folder.glob("*.safetensors")):
            raise DataError(
                f"{given}: has no weights as safetensors, and pickled ones are not read; save it anew with "
                "save_pretrained of a transformers that has safetensors"
            )
        with in_one_line(given, "its preprocessor_config.json cannot be used", "give the folder of an audio tokenizer"):
            extractor = transformers.AutoFeatureExtractor.from_pretrained(place, **local)
        with in_one_line(given, "its model cannot be loaded", "give the folder of an audio tokenizer"):
            model, loading = transformers.AutoModel.from_pretrained(
                place,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # of which transformers' own error says too little
                **local,
            )
    lacking = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
    if lacking:
        count = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise DataError(f"{given}: its weights do not fit its config.json, as {min(lacking)}{count}; get both anew")
    label = folder.resolve().name if folder.is_dir() else folder.name
    return Tokenizer(given, label, model, extractor, model_hash(model.state_dict(), said), device)


def load_tokenizers(given: Sequence[str], device: str) -> list[Tokenizer]:
    """Load several, as `load_tokenizer`; those of one label are numbered."""
    found = [load_tokenizer(one, device) for one in given]
    labels: Counter[str] = Counter()
    for tokenizer in found:
        labels[tokenizer.label] += 1
        if (number := labels[tokenizer.label]) > 1:
            tokenizer.label += f" ({number})"
    return found


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from drawing bars and from logging meanwhile."""
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
