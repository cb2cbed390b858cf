"""Bundles on the Hugging Face Hub: downloaded by the name hf:user/model, uploaded from a folder.

Both go through the package huggingface_hub, which nothing else needs, with its cache, its login and its HF_ENDPOINT. A
download takes the files of a bundle alone, by name, whatever else a repository holds: no pickle either way.
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
"""Suffix of the programs of torch.export, in which PyTorch pickles a part."""


def is_on_hub(name: object) -> bool:
    """Return whether a name is that of a model on the hub, hf:user/model, and no path."""
    return str(name).startswith(PREFIX)


def downloaded(name: str | Path) -> Path:
    """Return the folder of what hf:user/model or hf:user/model@revision names, in the cache of huggingface_hub.

    Without a network the copy in the cache is taken. Of a repository that holds no bundle, it has whichever of the
    files of a bundle there are.

    Raises:
        UsageError: huggingface_hub is not installed, or the name is none.
        DataError: there is no such model or revision, it is private, or the hub cannot be reached; or the name is that
            of a folder here with a tokenizer of transformers.
    """
    repository, _, revision = str(name).removeprefix(PREFIX).partition("@")
    refuse_tokenizer(Path(repository).expanduser(), name)
    hub = _package(name)
    with _in_words(name):
        found = hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=list(FILES), library_name=LIBRARY
        )
    return Path(found)


def is_cached_bundle(name: object) -> bool:
    """Return whether the cache has a bundle by the name hf:user/model, as after `downloaded`."""
    repository, _, revision = str(name).removeprefix(PREFIX).partition("@")
    try:
        hub = import_module("huggingface_hub")
        found = hub.try_to_load_from_cache(repository, CONFIG, revision=revision or None)
        return "schema_version" in json.loads(Path(found).read_text(encoding="utf-8"))
    except (ImportError, OSError, TypeError, ValueError):  # not installed; no such file, name or JSON
        return False


def uploaded(folder: str | Path, name: str, *, private: bool = False, message: str | None = None) -> str:
    """Upload a bundle as a model of the hub, made if it is not there; return its address.

    Of what the repository held before, the files of a bundle are replaced or removed, and all others stay.

    Args:
        folder: which `write_bundle` made.
        name: user/model.
        private: nobody but the user may see it.
        message: of the commit.

    Raises:
        UsageError: huggingface_hub is not installed, or the name is none.
        DataError: the folder is no bundle, or holds a pickle; the user is not logged in, or may not write there; a
            model that is to be private is public; or the hub cannot be reached.
    """
    folder, name = Path(folder), name.removeprefix(PREFIX)
    read_bundle(folder)
    if pickled := sorted(path.name for path in folder.iterdir() if path.suffix == PICKLED):
        raise DataError(
            f"{folder}: {pickled[0]} holds a pickle, which is not for others; export it again without --torch-export"
        )
    hub = _package(name)
    api = hub.HfApi(library_name=LIBRARY)
    files = [*FILES, *(program for program in PROGRAMS if not program.endswith(PICKLED))]
    with _in_words(name):
        address = api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.model_info(name).private:
            raise DataError(f"{name}: is there already, and public; make it private on its page, or give another name")
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
    for library in ("httpx", "httpx2"):  # of which huggingface_hub has one or the other: a line for each request
        logging.getLogger(library).setLevel(logging.WARNING)
    if not sys.stderr.isatty():
        import_module("huggingface_hub.utils").disable_progress_bars()
    return hub


@contextmanager
def _in_words(name: str | Path) -> Iterator[None]:
    """Put what huggingface_hub raises into one line."""
    errors = import_module("huggingface_hub.errors")
    try:
        yield
    except DataError:
        raise
    except errors.HFValidationError as error:
        raise UsageError(f"{name}: expected user/model or user/model@revision after {PREFIX}, as on the hub") from error
    except errors.RevisionNotFoundError as error:
        raise DataError(f"{name}: the model has no such revision; give a branch, a tag or a commit of it") from error
    except errors.GatedRepoError as error:
        raise DataError(
            f"{name}: asks for consent; accept its terms on its page, then log in: hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(
            f"{name}: no such model on the hub, or a private one; check the name, or log in: hf auth login"
        ) from error
    except Exception as error:  # of a library for HTTP, which is another one in each version
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            raise DataError(
                f"{name}: the hub refuses access; log in with a token that may write: hf auth login"
            ) from error
        said = " ".join(str(error.__cause__ or error).split())[:200]
        raise DataError(f"{name}: the hub cannot be reached, or refuses ({said}); check the network") from error
