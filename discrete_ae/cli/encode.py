"""`discrete-ae encode`: recordings to files of codes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from discrete_ae.cli.options import (
    BatchSecondsOption,
    CheckpointOption,
    DeterministicOption,
    Device,
    DeviceOption,
    JobsOption,
    SkipExistingOption,
    check_codebooks,
    load_model,
    runner_of,
)
from discrete_ae.errors import UsageError


class Format(StrEnum):
    """Formats of files of codes."""

    NPZ = "npz"
    NPY = "npy"
    DAEC = "daec"


class Shards(StrEnum):
    """Forms of a set of codes to train on."""

    TAR = "tar"
    MMAP = "mmap"


def encode(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Recordings, folders of them, patterns such as 'corpus/**/*.wav', or - for stdin.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            show_default=False,
            help="The folder for the codes; of one recording also a .npz, .npy or .daec file, or - for stdout.",
        ),
    ],
    checkpoint: CheckpointOption,
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            show_default="by the suffix of OUT, otherwise npz",
            help="[bold]npz[/] opens with numpy; [bold]npy[/] too, the bare codes; [bold]daec[/] is the smallest.",
        ),
    ] = None,
    codebooks: Annotated[
        int | None,
        typer.Option(
            "--codebooks",
            min=1,
            show_default="all",
            help="Use only the first codebooks of a residual quantizer, for a lower bitrate.",
        ),
    ] = None,
    device: DeviceOption = Device.AUTO,
    jobs: JobsOption = None,
    batch_seconds: BatchSecondsOption = 120.0,
    chunk_seconds: Annotated[
        float, typer.Option(min=0.1, help="So much of a recording is read ahead; the codes do not depend on it.")
    ] = 30.0,
    deterministic: DeterministicOption = False,
    loudness_lufs: Annotated[
        float | None,
        typer.Option(
            min=-70,
            max=0,
            show_default="as it is",
            help="Bring every recording to this loudness first; decoding takes the gain back.",
        ),
    ] = None,
    shards: Annotated[
        Shards | None,
        typer.Option(
            show_default="none",
            help="Put all codes of OUT together in OUT/shards, for training on them: WebDataset [bold]tar[/] files, or "
            "one array in memory-mapped form.",
        ),
    ] = None,
    skip_existing: SkipExistingOption = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", metavar="", help="Overwrite files of codes that exist.")
    ] = False,
    num_codebooks: Annotated[int | None, typer.Option(min=1, hidden=True, help="Earlier name of --codebooks.")] = None,
) -> None:
    """Turn recordings into files of integer codes.

    A folder keeps its tree: a/x.wav in INPUT becomes OUT/a/x.npz. Of several
    INPUTs, each folder keeps its name too. A file given by itself becomes
    OUT/x.npz. Where x.wav and x.flac lie in one folder, they become x.wav.npz
    and x.flac.npz.

    Any sample rate, length and format that libsndfile reads will do, in bounded
    memory. A mono model codes the channels of a recording one by one. A
    recording that cannot be coded is named, the others are done, and the exit
    status is 1. OUT/manifest.jsonl lists all files of the folder.

    trainer=ddp among the INPUTs shares the work out to many processes, one for
    each GPU, or under SLURM; trainer.devices=2 trainer.accelerator=cpu and
    other settings of the trainer go there too.
    """
    from discrete_ae.cli import batch
    from discrete_ae.cli.distributed import encode_distributed, split_overrides
    from discrete_ae.cli.encoding import Report, Settings, encoded, existing
    from discrete_ae.cli.files import names_file, plan, refuse_other_suffix
    from discrete_ae.cli.pipes import is_dash, piped
    from discrete_ae.codes.manifest import MANIFEST_NAME, read_manifest
    from discrete_ae.codes.shards import ShardKind
    from discrete_ae.data.files import SUFFIXES, probe

    codebooks = codebooks or num_codebooks
    given, overrides = split_overrides(inputs)
    if not given:
        raise UsageError("nothing to encode: give recordings, or folders of them")
    refuse_other_suffix(Path(out), "encode", [f".{known}" for known in Format])
    code_format = _format(Path(out), format)
    suffix = f".{code_format}"
    with piped(given, out, suffix) as (sources, target):
        is_folder = not names_file(target, [suffix])
        if not is_folder and (overrides or shards):
            raise UsageError(f"-o {out}: one file; {'trainer=' if overrides else '--shards'} needs a folder")
        if overrides and device is not Device.AUTO:
            raise UsageError(f"--device {device} and {overrides[0]}: give trainer.accelerator= instead of --device")
        planned = plan(sources, target, SUFFIXES, suffix)
        model = load_model(checkpoint, Device.CPU if overrides else device)
        check_codebooks(model, codebooks)
        if is_folder and (target / MANIFEST_NAME).exists():
            read_manifest(target)  # before the work: it is to be added to
        runner = runner_of(model, jobs, batch_seconds, deterministic)
        folder = target if is_folder else target.parent
        settings = Settings(code_format, codebooks, runner, chunk_seconds, loudness_lufs, folder)
        report = Report(model, settings, planned.problems, is_folder, ShardKind(shards) if shards else None)
        report.check_shards(planned.jobs)
        if overrides:
            status = encode_distributed(
                planned.jobs,
                lambda jobs: encoded(model, jobs, settings),
                overrides,
                model=model,
                describe=lambda job: existing(model, settings, job, keep=skip_existing),
                finish=report.whole,
                keep_existing=not force,
            )
            raise typer.Exit(status)
        report.begin()
        todo, there = batch.split(planned.jobs, report.tally, force=force)
        if not skip_existing:
            batch.refuse_existing(report.tally, there)
        outcomes = [report.say(existing(model, settings, job, keep=True)) for job in there if skip_existing]
        with (
            batch.progress_bar(report.tally, "encoding", todo, lambda path: probe(path).duration_s) as progress,
            batch.interruptible(report.tally, "encoded"),
        ):
            outcomes += [report.say(outcome) for outcome in encoded(model, todo, settings, progress)]
        status = report.finish(outcomes, to_stderr=is_dash(out))
    raise typer.Exit(status)


def _format(out: Path, chosen: Format | None) -> Format:
    from discrete_ae.cli.files import names_file

    if not names_file(out, [f".{known}" for known in Format]):
        return chosen or Format.NPZ
    named = Format(out.suffix.lower()[1:])
    if chosen not in (None, named):
        raise UsageError(f"--format {chosen}, but -o {out}; make them agree")
    return named
