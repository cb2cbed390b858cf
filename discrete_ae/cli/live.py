"""Streaming in `encode` and `decode`: live audio and codes through pipes, microphone and loudspeaker."""

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, cast

import typer

from discrete_ae.cli.options import logged_on
from discrete_ae.errors import DataError, UsageError

if TYPE_CHECKING:
    from discrete_ae.model import DiscreteAutoencoder

    Load = Callable[[], DiscreteAutoencoder]


def encode_stream(
    inputs: Sequence[str], out: str, load: "Load", num_codebooks: int | None, from_microphone: bool, strict: bool
) -> None:
    """Encode standard input or the microphone to standard output, frame by frame.

    Raises:
        UsageError: the input or the output is not `-`, standard input is closed, standard output is closed or a
            terminal, or the model is not causal.
        DataError: see `encode_live`; with `strict`, also if the stream is shorter than its WAV header states.
    """
    from discrete_ae.build import check_codebooks
    from discrete_ae.codec.live import encode_live
    from discrete_ae.data.live import microphone, wav_stream

    if list(inputs) != ["-"] or out != "-":
        raise UsageError("--format stream reads standard input and writes standard output: encode - -o -")
    if not from_microphone:
        require_stdin()
    require_stdout()
    model = load()
    check_codebooks(model, num_codebooks)
    if not from_microphone:
        doubts: list[str] = []
        _write(encode_live(model, wav_stream(_stdin(), doubts.append), num_codebooks))
        for doubt in doubts:
            if strict:
                raise DataError(f"-: {doubt}; send the whole recording, or leave out --strict")
            typer.echo(f"warning: -: {doubt}; all samples that arrived were coded", err=True)
        return
    with _interrupted() as ended:
        audio = microphone(model.sample_rate, model.channels, model.hop_length, ended)
        _write(encode_live(model, audio, num_codebooks))


def is_stream(inputs: Sequence[str]) -> bool:
    """Return whether the only input is standard input, and its first byte is that of a stream of codes.

    This waits until the first byte arrives.

    Raises:
        DataError: standard input is empty.
    """
    from discrete_ae.codes.stream import FIRST

    if list(inputs) != ["-"] or sys.stdin is None:
        return False
    first = _stdin().peek(1)[:1]
    if not first:
        raise DataError("-: standard input was empty; the encoder before it wrote nothing")
    return first == FIRST


def decode_stream(
    inputs: Sequence[str], out: str, load: "Load", audio_format: str, to_speaker: bool, force: bool
) -> None:
    """Decode a stream of codes from standard input, frame by frame.

    Raises:
        UsageError: the input is not `-`, the output cannot be used, or the model is not causal.
        DataError: see `decode_live`; also if the stream ends within a frame. The frames before it are written first.
    """
    from rich.console import Console

    from discrete_ae.codec.live import decode_live
    from discrete_ae.data.live import Speaker, wav_head, wav_samples
    from discrete_ae.data.reading import recorded_whole

    if list(inputs) != ["-"] or (to_speaker and out != "-"):
        raise UsageError("--speaker: plays codes from standard input; give - -o -")
    require_stdin()
    if out == "-" and not to_speaker:
        if audio_format != "wav":
            raise UsageError(
                f"--format {audio_format}: a stream can only become WAV; leave out --format, or give a file"
            )
        require_stdout()
    doubts: list[str] = []
    with logged_on(Console(stderr=True)):
        audio = decode_live(load(), _stdin(), doubts.append, force=force)
        if out != "-" and Path(out).exists() and not force:
            raise UsageError(f"-o {out}: already exists; use --force to overwrite, or give another name")
        if to_speaker:
            with Speaker(audio.sample_rate, audio.channels) as speaker:
                for block in audio.blocks:
                    speaker.play(block)
        elif out == "-":
            _write([wav_head(audio.sample_rate, audio.channels)])
            _write(map(wav_samples, audio.blocks))
        else:
            with recorded_whole(Path(out), audio.sample_rate, audio.channels, audio_format.upper()) as write:
                for block in audio.blocks:
                    write(block)
            typer.echo(f"{out}: decoded")
    for doubt in doubts:
        raise DataError(f"-: {doubt}; the frames before it are decoded, send the whole stream for the rest")


def _write(parts: Iterable[bytes]) -> None:
    """Write parts to standard output, and flush it after each."""
    for part in parts:
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


@contextmanager
def _interrupted() -> Iterator[Event]:
    """Yield an event that Ctrl-C sets, so that the last frame of a recording can still be written."""
    ended = Event()
    before = signal.signal(signal.SIGINT, lambda number, frame: ended.set())
    try:
        yield ended
    finally:
        signal.signal(signal.SIGINT, before)


def _stdin() -> BufferedReader:
    return cast(BufferedReader, sys.stdin.buffer)


def require_stdin() -> None:
    """Raise a UsageError if standard input is closed."""
    if sys.stdin is None:
        raise UsageError("-: standard input is closed; pipe data into it, or give a file")


def require_stdout() -> None:
    """Raise a UsageError if standard output is closed or a terminal."""
    if sys.stdout is None:
        raise UsageError("-o -: standard output is closed; redirect it to a file")
    if sys.stdout.isatty():
        raise UsageError("-o -: binary data would go to the terminal; redirect it to a file")
