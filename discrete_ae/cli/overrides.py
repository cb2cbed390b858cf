"""Location and composition of the configuration, and names of run folders.

A run has the same name in TensorBoard: its quantizer, bitrate, seed, and the values of other varied settings.
"""

import itertools
import math
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from discrete_ae.arguments import argument_types, typed
from discrete_ae.build import build_model, check_components
from discrete_ae.cli.hydra_errors import explained, keys
from discrete_ae.cli.usage import nearest
from discrete_ae.errors import UsageError, UserError
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.model.outline import without_memory
from discrete_ae.paths import with_home

PACKAGE_DIR = Path(__file__).parents[1]
# In an installed package, the folder conf is inside the package; in a checkout, it is next to the package.
CONFIG_DIR = next(path for path in (PACKAGE_DIR / "conf", PACKAGE_DIR.parent / "conf") if path.is_dir())
MAIN_CONFIG = "train"
PATH_KEYS = (
    "data.root",
    "data.validation_root",
    "data.manifest",
    "data.validation_manifest",
    "ckpt_path",
    "init_from",
    "run_dir",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
"""Keys that take a path, which needs no quotes. Each of data.sources has the same path keys as data."""
OF_MANY = ("logger", "callbacks")
"""Groups that an override may set to null, or replace by a new value."""
TRAINER = "lightning.pytorch.Trainer"


def compose_config(overrides: Sequence[str], config_dir: Path | None = None) -> DictConfig:
    """Compose the configuration of a run, without values for `${hydra:...}`.

    Args:
        overrides: settings, key=value.
        config_dir: folder of additional configurations, like Hydra's --config-dir.

    Raises:
        UsageError: an override cannot be parsed, names an unknown key or option, or has a value of the wrong type.
    """
    further = []
    if config_dir:
        further = [f"hydra.searchpath=[{QuotedString(f'file://{config_dir.absolute()}', Quote.single).with_quotes()}]"]
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return compose(MAIN_CONFIG, [*further, *as_meant(overrides)])
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise explained(error, CONFIG_DIR) from error


def as_meant(overrides: Sequence[str], *, multirun: bool = False) -> list[str]:
    """Convert overrides to Hydra's syntax: quote paths, add new arguments of the trainer, replace groups.

    Hydra rejects `logger=null` and `logger={...}`. Such a group is removed; for `{...}` it is added again with the new
    value.

    A value that begins with / or ~/ is quoted as a path, so that Hydra does not parse its characters. If the key takes
    a path, other values are quoted too if they are existing paths, or if Hydra would not read them as text. In a
    multirun, commas separate values, unless the whole value is an existing path, a list or a mapping.

    Raises:
        UsageError: an argument is not an override, a path is empty, or a choice is a list.
    """
    for number, override in enumerate(overrides):
        if "=" not in override and not override.startswith("~"):
            raise _not_an_override(number, overrides)
    return [meant for override in overrides for meant in _as_meant(override, multirun=multirun)]


def _not_an_override(number: int, given: Sequence[str]) -> UsageError:
    """Return the error for an argument without "=", which may be a part of an unquoted value."""
    words = " ".join(itertools.takewhile(lambda word: "=" not in word, given[number:]))
    told = f"expected key=value, got {given[number]!r}"
    key, equals, value = (given[number - 1] if number else "").partition("=")
    if not equals:
        return UsageError(f"{told}; write it without spaces, such as seed=3; --help lists all keys")
    if not value:
        return UsageError(f"{told}; write it without spaces: {key}={words}")
    quoted = f'{key}="{value} {words}"'
    return UsageError(f"{told}; quote a value with spaces: {shlex.quote(quoted)}")


def as_setting(flag: str, arguments: Sequence[str]) -> UsageError:
    """Return the error for an unknown flag, which may be meant as a setting, such as --max-steps.

    Args:
        flag: the unknown flag.
        arguments: all arguments; the one after the flag may be its value.
    """
    name, equals, value = flag.lstrip("-").partition("=")
    after = [*arguments, "VALUE"][arguments.index(flag) + 1]
    value = value if equals else "VALUE" if after.startswith("-") or "=" in after else after
    groups = sorted(path.name for path in CONFIG_DIR.iterdir() if path.is_dir())
    known = [*groups, *keys(OmegaConf.to_container(compose_config([]), resolve=False))]
    key = nearest(name.replace("-", "_"), known) if len(name) > 1 else None
    example = f"write {key}={value}" if key else "settings are written key=value, such as seed=3"
    return UsageError(f"{flag}: no such flag; {example}; --help lists all settings and flags")


def _as_meant(override: str, *, multirun: bool) -> list[str]:
    key, equals, value = with_home(override).partition("=")
    if key in OF_MANY and value == "null":
        return [f"~{key}"]
    if key in OF_MANY and value.startswith("{"):
        return [f"~{key}", f"+{override}"]
    if key.startswith("trainer.") and key.removeprefix("trainer.") in argument_types(TRAINER):
        key = f"++{key}"
    if value.startswith("[") and key not in OF_MANY and (CONFIG_DIR / key).is_dir():
        raise UsageError(f"{key}: expected one option, got {value}; for one run each, write -m {key}={value[1:-1]}")
    takes_path = re.sub(r"^data\.sources\.[^.]+", "data", key.lstrip("+")) in PATH_KEYS
    if takes_path and equals and not value.strip("'\""):  # such as from an unset shell variable
        raise UsageError(f"{key}: expected a path, got ''")
    is_literal = takes_path and not _is_text(f"{key}={value}", multirun=multirun)

    def quoted(given: str) -> str:
        is_there = takes_path and os.path.exists(given)  # noqa: PTH110  also accepts impossible names
        is_path = given.startswith("/") or is_literal or is_there
        return QuotedString(given, Quote.single).with_quotes() if is_path else given

    is_whole = not multirun or value.startswith(("[", "{")) or os.path.exists(value)  # noqa: PTH110
    several = [value] if is_whole else value.split(",")
    return [key + equals + ",".join(quoted(with_home(each)) for each in several)]


def _is_text(override: str, *, multirun: bool) -> bool:
    """Return whether Hydra reads the unquoted value as text, null or a list; in a multirun, a sweep counts too."""
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return multirun if parsed.is_sweep_override() else not isinstance(parsed.value(), bool | int | float)


def built(config: DictConfig) -> DiscreteAutoencoder:
    """Build the model of a composed configuration, with random weights.

    Raises:
        UsageError: a value has the wrong type, or values conflict.
    """
    plain = OmegaConf.to_container(config.model, resolve=True)
    check_components(plain)  # checked before their arguments
    return build_model(typed(plain, "model"), trust=None)


def register_run_name() -> None:
    """Register the resolvers `${run_name:}` and `${run_name:KEY,...}`; the second appends values of keys and groups."""
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)


def _run_name(*keys: str, _root_: DictConfig) -> str:
    choices = _root_.hydra.runtime.choices
    parts = [choices.quantizer, _rate(_root_), f"seed{_root_.seed}"]
    for key in keys:
        value = choices[key] if key in choices else OmegaConf.select(_root_, key)
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        parts.append(f"{key.rpartition('.')[2]}_{shown}")
    # Characters that are special in a shell, a URL or Hydra are replaced.
    return "-".join(re.sub(r"(_|[^\w.-])+", "_", part.replace("+", ""), flags=re.ASCII).strip("_") for part in parts)


def _rate(config: DictConfig) -> str:
    """Return the nominal bitrate, such as "3.2kbps"."""
    try:
        with without_memory():
            model = built(config)
    except (UserError, OmegaConfBaseException, RuntimeError):
        return "invalid"  # the run itself prints the full error
    return f"{model.bitrate_bps / 1000:.3g}kbps" if math.isfinite(model.bitrate_bps) else "unquantized"
