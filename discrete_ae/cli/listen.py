"""`discrete-ae listen`: rate the clips of a comparison blind, in the browser."""

import os
import secrets
import shlex
import sys
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.advice import command
from discrete_ae.errors import DataError, UsageError

if TYPE_CHECKING:
    from discrete_ae.compare.listening.material import Material
    from discrete_ae.compare.listening.ratings import Rating

# BS.1534-3 §5.1
LONGEST_CLIP_S = 12.0


def listen(
    report: Annotated[
        Path,
        typer.Argument(
            metavar="REPORT", show_default=False, help="The folder that [bold]discrete-ae compare[/] wrote with -o."
        ),
    ],
    ratings: Annotated[
        Path | None,
        typer.Option(
            "--ratings",
            "-o",
            metavar="FILE",
            show_default="REPORT/ratings.csv",
            help="The table that the ratings are added to.",
        ),
    ] = None,
    listener: Annotated[
        str, typer.Option("--listener", metavar="NAME", show_default="asked on the page", help="Name or alias.")
    ] = "",
    clips: Annotated[int | None, typer.Option(min=1, show_default="all", help="Rate the first so many clips.")] = None,
    methods: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", show_default="all", help="Which of the report's methods are rated."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, show_default="by chance", help="Of the order; it is saved with the ratings.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Go on with this listener's last session, if it is unfinished.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, show_default="a free one", help="Of the page on this machine.")
    ] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", metavar="", help="Only print the page's address.")
    ] = False,
    summary: Annotated[
        bool, typer.Option("--summary", metavar="", help="Print what all ratings so far say, and listen to nothing.")
    ] = False,
) -> None:
    """Rate the clips of a comparison without knowing which method is which.

    A page opens in the browser: for each clip the reference, and under
    numbers, in random order, the methods, the reference once more and a
    low-passed anchor, each to be rated from 0 to 100. It is the listening test
    of ITU-R BS.1534 (MUSHRA) in most respects. The page is reached from this
    machine alone; every finished clip is saved at once. At the end the page
    says what was what; Ctrl-C ends earlier.
    """
    from discrete_ae.compare.listening.material import read_material
    from discrete_ae.compare.listening.ratings import one_line, read_ratings
    from discrete_ae.compare.listening.server import ListeningServer
    from discrete_ae.compare.listening.session import Session

    path = ratings or report / "ratings.csv"
    material = read_material(report)
    if summary:
        print_summary(material, read_ratings(path), path)
        return
    found = read_ratings(path)
    chosen_clips = _first(list(material.clips), clips)
    chosen_methods = material.chosen([name.strip() for name in methods.split(",")] if methods is not None else None)
    listener = one_line(listener)
    begun = _unfinished(found, material, listener, seed) if resume else None
    seed = begun.seed if begun else secrets.randbelow(2**32) if seed is None else seed
    name = begun.session if begun else secrets.token_hex(6)
    session = Session(material, chosen_clips, chosen_methods, path, seed, name, listener)
    if session.longest_clip_s > LONGEST_CLIP_S:
        said = f"{session.longest_clip_s:.0f} s, longer than the {LONGEST_CLIP_S:.0f} s that listeners can compare"
        typer.echo(f"warning: there is a clip of {said}; compare again with --clip-seconds 10", err=True)

    heard = threading.Event()
    with ListeningServer(session, port, on_result=heard.set) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        typer.echo(f"{len(session.plan.trials)} clips, {len(session.labels)} versions each: {server.address}")
        typer.echo("The page is on this machine alone. Ctrl-C ends; what is rated is kept.")
        with suppress(KeyboardInterrupt):
            if not no_browser and _has_display():
                webbrowser.open(server.address)
            while not heard.wait(1):  # not for ever at once: Windows would not hear of Ctrl-C
                pass
        server.shutdown()
    typer.echo("")
    if not session.is_finished:
        again = f"; go on with {_resuming(report, ratings, clips, methods, session.listener)}"
        typer.echo(f"{session.done} of {len(session.plan.trials)} clips rated{again if session.done else ''}")
    if session.done:
        print_summary(material, read_ratings(path), path)


def print_summary(material: "Material", ratings: "Sequence[Rating]", path: Path) -> None:
    """Print the table over all ratings of these sounds.

    Raises:
        DataError: there are none.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from discrete_ae.compare.listening.summary import summarize
    from discrete_ae.compare.listening.words import HEADINGS, cells, remarks

    own = [rating for rating in ratings if rating.material == material.digest]
    others = len({rating.session for rating in ratings}) - len({rating.session for rating in own})
    if not own:
        reason = "the ratings in it are of other sounds" if ratings else "there are no ratings in it"
        raise DataError(f"{path}: {reason}; rate some clips first, without --summary")
    result = summarize(own)
    table = Table(*HEADINGS, title=f"Ratings of {material.title}, from 0 (bad) to 100 (excellent)")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in result.conditions:
        table.add_row(*map(Text, cells(row)))  # a label may hold brackets
    console = Console()
    console.print(table)
    lines = remarks(result)
    if others:
        lines.append(f"{others} {'session' if others == 1 else 'sessions'} in {path} rated other sounds: not counted.")
    for line in lines:
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
    typer.echo(f"all ratings are in {path}")


def _first(clips: list[str], count: int | None) -> list[str]:
    if count is not None and count > len(clips):
        raise UsageError(f"--clips {count}: the report has {len(clips)}")
    return clips[:count]


def _unfinished(ratings: "Sequence[Rating]", material: "Material", listener: str, seed: int | None) -> "Rating":
    from discrete_ae.compare.listening.session import unfinished

    if seed is not None:
        raise UsageError("--seed and --resume: a session goes on with the seed that it has; give one of the two")
    found = unfinished(ratings, material, listener)
    if found is None:
        whose = f"of {listener}" if listener else "without a --listener"
        raise UsageError(f"--resume: no unfinished session {whose} on these sounds; leave it out to begin one")
    return found


def _resuming(report: Path, ratings: Path | None, clips: int | None, methods: str | None, listener: str) -> str:
    """The command that goes on with a session: of the same clips and methods, under the name given on the page."""
    options = {"-o": ratings, "--listener": listener or None, "--clips": clips, "--methods": methods}
    given = [str(part) for option, value in options.items() if value is not None for part in (option, value)]
    return shlex.join([command("discrete-ae"), "listen", str(report), *given, "--resume"])


def _has_display() -> bool:
    """Whether a browser would open a window, and not in this terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
