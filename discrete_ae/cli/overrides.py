"""Location and composition of the configuration, messages for Hydra's errors, and names of run folders.

A run has the same name in TensorBoard: its quantizer, bitrate, seed, and the values of other varied settings.
"""

import difflib
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from discrete_ae.arguments import argument_types, not_taken, typed
from discrete_ae.build import build_model, check_components
from discrete_ae.errors import UsageError, UserError
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.model.outline import without_memory
from discrete_ae.paths import with_home

PACKAGE_DIR = Path(__file__).parents[1]
# In an installed package, the folder conf is inside the package; in a checkout, it is next to the package.
CONFIG_DIR = next(path for path in (PACKAGE_DIR / "conf", PACKAGE_DIR.parent / "conf") if path.is_dir())
CONFIG_NAME = "train"
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
            return compose(CONFIG_NAME, [*further, *as_meant(overrides)])
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise explained(error) from error


def as_meant(overrides: Sequence[str], *, multirun: bool = False) -> list[str]:
    """Convert overrides to Hydra's syntax: quote paths, add new arguments of the trainer, replace groups.

    Hydra rejects `logger=null` and `logger={...}`. Such a group is removed; for `{...}` it is added again with the new
    value.

    A value that begins with / or ~/ is quoted as a path, so that Hydra does not parse its characters. If the key takes
    a path, other values are quoted too if they are existing paths, or if Hydra would not read them as text. In a
    multirun, commas separate values, unless the whole value is an existing path.
    """
    return [meant for override in overrides for meant in _as_meant(override, multirun=multirun)]


def _as_meant(override: str, *, multirun: bool) -> list[str]:
    key, equals, value = with_home(override).partition("=")
    if key in OF_MANY and value == "null":
        return [f"~{key}"]
    if key in OF_MANY and value.startswith("{"):
        return [f"~{key}", f"+{override}"]
    if key.startswith("trainer.") and key.removeprefix("trainer.") in argument_types(TRAINER):
        key = f"++{key}"
    takes_path = re.sub(r"^data\.sources\.[^.]+", "data", key.lstrip("+")) in PATH_KEYS
    if takes_path and equals and not value.strip("'\""):  # such as from an unset shell variable
        raise UsageError(f"{key}: expected a path, got ''")
    is_literal = takes_path and not _is_text(f"{key}={value}", multirun=multirun)

    def quoted(given: str) -> str:
        is_there = takes_path and os.path.exists(given)  # noqa: PTH110  also accepts impossible names
        is_path = given.startswith("/") or is_literal or is_there
        return QuotedString(given, Quote.single).with_quotes() if is_path else given

    several = value.split(",") if multirun and not os.path.exists(value) else [value]  # noqa: PTH110
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


def explained(error: Exception, *, multirun: bool = False) -> UsageError:
    """Convert an error of Hydra to a message of one line, which suggests the most similar existing name."""
    said = " ".join(str(error).partition("\nConfig search path")[0].split())
    refused = error.__cause__
    if isinstance(error, OverrideParseException):
        said = f"cannot read {error.override!r}; write key=value, or 'key=\"value (1)\"'"
    elif isinstance(error, MissingConfigException):
        group, _, option = str(error.missing_cfg_file).partition("/")
        said += _nearest(option, sorted(_options(CONFIG_DIR / group)))
        if option.startswith(("launcher/", "sweeper/")):
            said += f"; is it installed? pip install 'discrete-ae[{'ray' if 'ray' in option else 'sweeps'}]'"
    elif isinstance(refused, ValidationError):
        said = f"{refused.full_key}: {str(refused).splitlines()[0]}"
    elif isinstance(refused, OmegaConfBaseException) and isinstance(refused.parent_node, DictConfig):
        key = str(refused.key)
        place = str(refused.full_key).removesuffix(key)
        target = str(refused.parent_node.get("_target_"))
        if key in argument_types(target):
            said += f": {target} accepts it, but it is not set here"
        else:
            if not multirun:  # in a multirun, another choice of the group may accept the key
                said = not_taken(target, key, str(refused.full_key)) or said
            said += _nearest(key, list(_keys(OmegaConf.to_container(refused.parent_node))), place)
        said += "; --help lists all keys"
        if multirun:
            said += "; in a multirun write ++key=value where the default has no such key"
    return UsageError(said)


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


def _nearest(name: str, choices: list[str], place: str = "") -> str:
    # Perhaps only the prefix is missing, such as in lr for optim.optimizer.lr, or in tiny for spectral/tiny.
    found = [choice for choice in choices if re.split(r"[./]", choice)[-1] == name]
    found = found or difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean '{place}{found[0]}'?" if found else ""


def _options(group_dir: Path) -> Iterator[str]:
    return (path.relative_to(group_dir).with_suffix("").as_posix() for path in group_dir.rglob("*.yaml"))


def _keys(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")
