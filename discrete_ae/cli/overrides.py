"""Where the configuration lies, how it is composed, and how Hydra's refusals are told: in one line, with the mend."""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from discrete_ae.errors import UsageError

PACKAGE_DIR = Path(__file__).parents[1]
# Inside an installed package the configuration lies beside the modules, in a checkout beside the package.
CONFIG_DIR = next(path for path in (PACKAGE_DIR / "conf", PACKAGE_DIR.parent / "conf") if path.is_dir())
CONFIG_NAME = "train"


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of a run, which `${hydra:...}` is no part of.

    Raises:
        UsageError: for an override that does not parse, names no key or option, or has a value of the wrong type.
    """
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return compose(CONFIG_NAME, list(overrides))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise explained(error) from error


def explained(error: Exception, *, multirun: bool = False) -> UsageError:
    """Put Hydra's own words into one line, and add the nearest name that there is."""
    said = " ".join(str(error).partition("\nConfig search path")[0].split())
    refused = error.__cause__
    if isinstance(error, OverrideParseException):
        said = f"cannot read {error.override!r}; write key=value, or 'key=\"value (1)\"'"
    elif isinstance(error, MissingConfigException):
        group, _, option = str(error.missing_cfg_file).partition("/")
        said += _nearest(option, sorted(_options(CONFIG_DIR / group)))
        if option.startswith(("launcher/", "sweeper/")):
            said += f"; is it installed? pip install 'discrete-ae[{'ray' if 'ray' in option else 'sweeps'}]'"
    elif isinstance(refused, OmegaConfBaseException) and isinstance(refused.parent_node, DictConfig):
        key = str(refused.key)
        place = str(refused.full_key).removesuffix(key)
        said += (
            _nearest(key, list(_keys(OmegaConf.to_container(refused.parent_node))), place) + "; --help lists all keys"
        )
        if multirun:
            said += "; in a multirun write ++key=value where the default has no such key"
    return UsageError(said)


def _nearest(name: str, choices: list[str], place: str = "") -> str:
    # A name may be right but for its place, as lr is for optim.optimizer.lr and tiny for spectral/tiny.
    found = [choice for choice in choices if re.split(r"[./]", choice)[-1] == name]
    found = found or difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean '{place}{found[0]}'?" if found else ""


def _options(group_dir: Path) -> Iterator[str]:
    return (path.relative_to(group_dir).with_suffix("").as_posix() for path in group_dir.rglob("*.yaml"))


def _keys(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")
