"""`discrete-ae index`: write a manifest of the recordings in folders and tars, for data.manifest=."""

from pathlib import Path
from typing import Annotated

import typer

from discrete_ae.errors import DataError, UsageError, counted


def index(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Folders, recordings, tars, URLs of recordings or tars, manifests, or patterns such as "
            "'corpus/**/*.wav'.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The manifest to write, a .jsonl file.")],
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Decode all recordings, and add their bandwidth, loudness, and shares of clipping and silence.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite an existing manifest.")] = False,
) -> None:
    """List recordings in a manifest, with one line of JSON for each.

    A line has the path, duration, sample rate, channels, and the size of the
    file. Training uses the size to detect a replaced file. Paths below the
    manifest's folder are relative to it. Train on the manifest with
    data.manifest=OUT.

    For a recording in a tar, such as those of discrete-ae shards, the line also
    has the recording's name and position in the tar, so that the tar need not be
    unpacked. The line also has the version of the tar: training rejects a tar
    that was rewritten.

    LibriSpeech, LibriTTS, LJSpeech, VCTK, Speech Commands, GTZAN and MUSDB18
    are recognized by their folders and file names, even if only a part of the
    data set is present. Depending on the data set, their lines also have split
    (train, validation or test), text, speaker, genre, word, track and stem. If no
    recording of a data set is for validation, its lines have a group instead of
    the split, and training holds out whole groups. Only index recognizes data
    sets: a folder given as data.root is split by the paths of its files.

    --measure adds bandwidth_hz, the highest frequency within 60 dB of the peak
    of the averaged spectrum. data.min_bandwidth_hz uses it to exclude upsampled
    recordings. --measure also adds loudness_lufs; clipping, the share of samples
    at full scale; and silence, the share of the time below -60 dB of full scale.

    Truncated WAV files are reported; with --measure, so are other truncated files
    and silent recordings. A recording that cannot be read is reported and left
    out; the exit status is then 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from discrete_ae.cli.options import logged_on, print_line
    from discrete_ae.data.files import signs
    from discrete_ae.data.index import index as found_in
    from discrete_ae.data.manifest import write_manifest
    from discrete_ae.data.measure import measure_all
    from discrete_ae.data.recognizing import described
    from discrete_ae.evaluation.saving import claim

    if out.suffix.lower() != ".jsonl":
        raise UsageError(f"-o {out}: index writes .jsonl; give such a file")
    claim([out], force=force)
    errors = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)
    with logged_on(errors), bar:
        task = bar.add_task("headers", total=None)
        files, failed = found_in(inputs, lambda: bar.advance(task))
        faults = list(failed.values())
        files, summaries = described(files)
        stamps = signs([*dict.fromkeys(file.place for file in files)])
        if measure:
            task = bar.add_task("measured", total=len(files))
            measured = measure_all(files, lambda: bar.advance(task))
            faults += [one for one in measured if isinstance(one, DataError)]
            files = [one for one in measured if not isinstance(one, DataError)]
    for summary in summaries:
        typer.echo(summary)
    for fault in faults:
        print_line(errors, f"error: {fault}")
    for file in files:
        if file.doubt:
            print_line(errors, f"warning: {file.name}: {file.doubt}; all existing samples are used")
        if measure and file.known["silence"] == 1:
            print_line(errors, f"warning: {file.name}: silent from beginning to end")
    if not files:
        raise DataError(f"none of {counted(len(faults), 'recording')} can be read; give others")
    write_manifest(out, files, stamps)
    hours = sum(file.duration_s for file in files) / 3600
    left = f"; {len(faults)} cannot be used and are left out" if faults else ""
    typer.echo(f"{out}: {counted(len(files), 'recording')}, {hours:.2f} h{left}")
    raise typer.Exit(1 if faults else 0)
