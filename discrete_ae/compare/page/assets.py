"""Styles and programs beside this file, and the rules that keep a page from loading anything."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

FOLDER = Path(__file__).parent


def asset(name: str, folder: Path = FOLDER) -> str:
    """Text of a file of a page, such as "player.js"."""
    return (folder / name).read_text(encoding="utf-8")


def environment(folder: Path = FOLDER) -> jinja2.Environment:
    """Of templates that escape what they are given, and fail at a name that they are not given.

    The filter `breakable` lets a line end behind the underscores of a name.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = lambda name: escape(name).replace("_", Markup("_<wbr>"))
    return environment


def policy(scripts: Sequence[str]) -> str:
    """Content security policy of a page that loads nothing and runs these inline scripts and no others.

    Styles are allowed inline, since matplotlib writes them into its drawings; pictures as data.
    """
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    rules = {
        "default-src": "'none'",
        "script-src": hashes or "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
