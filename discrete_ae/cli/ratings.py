"""`discrete-ae compare --ratings`: what the ratings of a blind listening test say."""

from collections.abc import Sequence
from pathlib import Path

import typer


def summarize_ratings(paths: Sequence[Path], out: Path | None) -> None:
    """Print the means of the ratings in these files, and write them to a CSV file.

    Args:
        paths: files that the page of a report saved.
        out: None writes nothing.

    Raises:
        DataError: they cannot be summarized, or the file cannot be written.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from discrete_ae.compare.ratings import HEADINGS, as_table, cells, read_ratings, remarks, summarize
    from discrete_ae.compare.tables import as_csv
    from discrete_ae.writing import write_whole

    summary = summarize(read_ratings(paths))
    table = Table(*HEADINGS, title="Ratings, from 0 (bad) to 100 (excellent)")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for condition in summary.conditions:
        table.add_row(*map(Text, cells(condition)))  # a label may hold brackets
    console = Console()
    console.print(table)
    for line in remarks(summary):
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
    if out:
        write_whole(out, as_csv(as_table(summary)))
        typer.echo(f"wrote {out}")
