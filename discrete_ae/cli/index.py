"""`discrete-ae index`: the recordings of folders and tars as a manifest, for data.manifest=."""

from pathlib import Path
from typing import Annotated

import typer

from discrete_ae.errors import UsageError, counted


def index(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Folders, recordings, tars, URLs of these two, manifests, or patterns such as 'corpus/**/*.wav'.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The manifest, a .jsonl file.")],
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            metavar="",
            help="Decode everything, and add bandwidth, loudness, and the shares that are clipped and silent.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", metavar="", help="Overwrite a manifest that exists.")] = False,
) -> None:
    """Write down which recordings there are: a line of JSON for each.

    A line has the path, relative to the manifest where it lies below its
    folder, duration, sample rate, channels, and the size of the file, by which
    another file in its place is noticed. Train on it with data.manifest=OUT.

    Of a recording in a tar, such as those of discrete-ae shards, it also has the
    name there and the place, so that it is read without unpacking, and the
    version of the tar: one that was written again is not trained on.

    LibriSpeech, LibriTTS, LJSpeech, VCTK, Speech Commands, GTZAN and MUSDB18
    are recognized by how they lie on disk, whole or in part. Their lines also
    have split (train, validation or test), speaker, genre, word, or track and
    stem, and text. Where nothing of a data set validates, lines have a group in
    place of the split, and training holds out whole groups. Only index does
    so: a folder given as data.root is split by the paths of its files.

    With --measure also bandwidth_hz, the highest frequency within 60 dB of the
    peak of the averaged spectrum, by which data.min_bandwidth_hz leaves out
    what was upsampled; loudness_lufs; clipping, the share of samples at full
    scale; silence, the share of time below -60 dB of full scale.

    Recordings that are cut off are named, and with --measure silent ones.
    A recording that cannot be read is named and left out, and the exit status
    is 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from discrete_ae.cli.options import logged_on, print_line
    from discrete_ae.data.files import signs
    from discrete_ae.data.index import index as found_in
    from discrete_ae.data.manifest import write_manifest
    from discrete_ae.data.measure import measure_all
    from discrete_ae.data.recognizing import described
    from discrete_ae.errors import DataError
    from discrete_ae.evaluation.saving import claim

    if out.suffix.lower() != ".jsonl":
        raise UsageError(f"-o {out}: index writes .jsonl; give such a file")
    claim([out], force=force)
    errors = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)
    with logged_on(errors), bar:
        task = bar.add_task("headers", total=None)
        files, failed = found_in(inputs, lambda count: bar.advance(task, count))
        faults = list(failed.values())
        files, summaries = described(files)
        stamps = signs([*dict.fromkeys(file.place for file in files)])
        if measure:
            task = bar.add_task("measured", total=len(files))
            measured = measure_all(files, lambda count: bar.advance(task, count))
            faults += [one for one in measured if isinstance(one, DataError)]
            files = [one for one in measured if not isinstance(one, DataError)]
    for summary in summaries:
        typer.echo(summary)
    for fault in faults:
        print_line(errors, f"error: {fault}")
    for file in files:
        if file.doubt:
            print_line(errors, f"warning: {file.name}: {file.doubt}; all that is there is read")
        if measure and file.known["silence"] == 1:
            print_line(errors, f"warning: {file.name}: silent from its beginning to its end")
    if not files:
        raise DataError(f"none of {counted(len(faults), 'recording')} can be read; give others")
    write_manifest(out, files, stamps)
    hours = sum(file.duration_s for file in files) / 3600
    left = f"; {len(faults)} cannot be used and are left out" if faults else ""
    typer.echo(f"{out}: {counted(len(files), 'recording')}, {hours:.2f} h{left}")
    raise typer.Exit(1 if faults else 0)
