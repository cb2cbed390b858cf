"""How paths and commands are told to a person, who types them again."""

import shutil
import sys
from pathlib import Path


def shown(path: Path) -> Path:
    """The path as it is typed here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def command(name: str) -> str:
    """How a command of this environment is typed: by name where the shell finds it, else by its path."""
    path = Path(sys.executable).with_name(name)
    return name if shutil.which(name) == str(path) else str(shown(path))
