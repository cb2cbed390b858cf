"""Bundles on the Hugging Face Hub: download by the name hf:user/model, upload from a folder.

Both use the package huggingface_hub, with its cache, its login and its variable HF_ENDPOINT. No other module needs that
package. Downloads and uploads transfer only the files of a bundle, selected by name, and never a pickle.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from discrete_ae.errors import DataError, UsageError
from discrete_ae.saving.bundle import CARD, CONFIG, ENTROPY, PROGRAMS, TENSORS, read_bundle, refuse_tokenizer

PREFIX = "hf:"
LIBRARY = "discrete-ae"
FILES = (CONFIG, TENSORS, ENTROPY, CARD)
PICKLED = ".pt2"
"""Suffix of the programs of torch.export, which contain a pickle."""


def is_on_hub(name: object) -> bool:
    """Return whether a name has the form hf:user/model, of a model on the hub, rather than that of a path."""
    return str(name).startswith(PREFIX)


def downloaded(name: str | Path) -> Path:
    """Download hf:user/model or hf:user/model@revision, and return its folder in the cache of huggingface_hub.

    Without a network, the copy in the cache is used. If the repository is not a complete bundle, the folder holds only
    those files of a bundle that the repository has.

    Raises:
        UsageError: huggingface_hub is not installed, or the name is invalid.
        DataError: there is no such model or revision, the model is private, or the hub cannot be reached. Also
            raised if the name is a local folder with a tokenizer of transformers.
    """
    repository, _, revision = str(name).removeprefix(PREFIX).partition("@")
    refuse_tokenizer(Path(repository).expanduser(), name)
    hub = _package(name)
    with _in_words(name):
        found = hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=list(FILES), library_name=LIBRARY
        )
    return Path(found)


def holds_bundle(name: str | Path) -> bool:
    """Return whether hf:user/model is a bundle, by its config.json, which is downloaded if it is not in the cache.

    Raises:
        UsageError: huggingface_hub is not installed, or the name is invalid.
        DataError: there is no such file, or the hub cannot be reached.
    """
    repository, _, revision = str(name).removeprefix(PREFIX).partition("@")
    hub = _package(name)
    with _in_words(name):
        found = hub.try_to_load_from_cache(repository, CONFIG, revision=revision or None)
        if not isinstance(found, str):
            # Without a network, this request fails at once, and the download only after five more attempts.
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, CONFIG, revision=revision or None))
            found = hub.hf_hub_download(repository, CONFIG, revision=revision or None, library_name=LIBRARY)
    try:
        return "schema_version" in json.loads(Path(found).read_text(encoding="utf-8"))
    except (OSError, TypeError, ValueError):  # the file or its JSON is invalid
        return False


def uploaded(folder: str | Path, name: str, *, private: bool = False, message: str | None = None) -> str:
    """Upload a bundle to a model repository on the hub, and return its address.

    The repository is created if it does not exist. Files of an earlier bundle are replaced or removed; all other files
    stay.

    Args:
        folder: folder of the bundle.
        name: name of the model, user/model.
        private: True for a model that only the user can see.
        message: commit message.

    Raises:
        UsageError: huggingface_hub is not installed, or the name is invalid.
        DataError: the folder is not a bundle, or contains a pickle; the user is not logged in, or has no write access;
            the model exists and is public, but `private` is set; or the hub cannot be reached.
    """
    folder, name = Path(folder), name.removeprefix(PREFIX)
    read_bundle(folder)
    if pickled := sorted(path.name for path in folder.iterdir() if path.suffix == PICKLED):
        raise DataError(
            f"{folder}: {pickled[0]} contains a pickle, which must not be published; export again without "
            "--torch-export"
        )
    hub = _package(name)
    api = hub.HfApi(library_name=LIBRARY)
    files = [*FILES, *(program for program in PROGRAMS if not program.endswith(PICKLED))]
    with _in_words(name):
        address = api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.model_info(name).private:
            raise DataError(f"{name}: already exists and is public; make it private on its page, or give another name")
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=files,
            delete_patterns=files,
            commit_message=message or f"Upload with {LIBRARY}",
        )
    return str(address)


def _package(name: str | Path) -> Any:
    try:
        hub = import_module("huggingface_hub")
    except ImportError as error:
        raise UsageError(f"{name}: huggingface_hub is not installed; pip install 'discrete-ae[hub]'") from error
    for library in ("httpx", "httpx2"):  # huggingface_hub uses one of them, which logs a line for each request
        logging.getLogger(library).setLevel(logging.WARNING)
    import_module("huggingface_hub.utils.logging").set_verbosity_error()  # or a line for each time that it tries again
    if not sys.stderr.isatty():
        import_module("huggingface_hub.utils").disable_progress_bars()
    return hub


@contextmanager
def _in_words(name: str | Path) -> Iterator[None]:
    """Convert the errors of huggingface_hub to errors in one line."""
    errors = import_module("huggingface_hub.errors")
    try:
        yield
    except DataError:
        raise
    except errors.HFValidationError as error:
        raise UsageError(f"{name}: expected user/model or user/model@revision after {PREFIX}, as on the hub") from error
    except errors.RevisionNotFoundError as error:
        raise DataError(f"{name}: the model has no such revision; give one of its branches, tags or commits") from error
    except errors.GatedRepoError as error:
        raise DataError(
            f"{name}: requires consent; accept the terms on the model's page, then log in: hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(
            f"{name}: no such model on the hub, or the model is private; check the name, or log in: hf auth login"
        ) from error
    except Exception as error:  # from the HTTP library, which depends on the version
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            raise DataError(
                f"{name}: the hub denies access; log in with a token that has write access: hf auth login"
            ) from error
        said = " ".join(str(error.__cause__ or error).split())[:200]
        raise DataError(f"{name}: the hub cannot be reached, or failed ({said}); check the network") from error
