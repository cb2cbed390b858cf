"""`discrete-ae`: train and compare discrete audio autoencoders, encode recordings to integers, and decode them.

An error that the user can fix, or a system error on a file, is printed as one line on stderr. Any other exception is a
bug and keeps its traceback.
"""

import signal
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

import discrete_ae
from discrete_ae.cli import begin_in_utf8, let_go_of_stdout
from discrete_ae.cli.compare import compare
from discrete_ae.cli.decode import decode
from discrete_ae.cli.encode import encode
from discrete_ae.cli.evaluate import evaluate
from discrete_ae.cli.export import export
from discrete_ae.cli.index import index
from discrete_ae.cli.info import info
from discrete_ae.cli.options import as_given
from discrete_ae.cli.push import push
from discrete_ae.cli.shards import shards
from discrete_ae.cli.usage import in_words
from discrete_ae.errors import UserError, from_system
from discrete_ae.paths import with_home
from discrete_ae.signals import SIGNALLED, exiting_on_sigterm

NAME = "discrete-ae"


class _BareFlags:
    """Help that does not describe flags as `<bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        found = super().get_params(ctx)  # type: ignore[misc]
        for parameter in found:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return found


class _Command(_BareFlags, TyperCommand):
    pass


class _Group(_BareFlags, TyperGroup):
    pass


app = typer.Typer(cls=_Group, pretty_exceptions_enable=False, rich_markup_mode="rich")


def _example(*lines: str) -> str:
    return "\n\n".join(f"[dim]Example:[/] {NAME} {line}" for line in lines)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {discrete_ae.__version__}")
        raise typer.Exit


@app.callback(epilog=_example("train quantizer=fourier"))
def _discrete_ae(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Discrete audio autoencoders: train and compare them, turn recordings into integer codes and back."""


@app.command(
    rich_help_panel="Train",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def train(overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None) -> None:
    """Train a model; [bold]discrete-ae train --help[/] lists the settings and their choices."""
    from discrete_ae.cli.train import main as train_main

    train_main(overrides or [])


_CHECKPOINT = "logs/default/RUN/checkpoints/best.ckpt"
for _command, _panel, *_examples in (
    (index, "Train", "index /path/to/audio -o train.jsonl", "index shards/*.tar -o train.jsonl"),
    (shards, "Train", "shards recordings -o shards --size 1GB"),
    (compare, "Compare", "compare logs/compare/TIME -o report", "compare RUN RUN -o report --data recordings"),
    (evaluate, "Compare", f"evaluate recordings -o result.json -c {_CHECKPOINT}"),
    (encode, "Encode and decode", "encode speech.wav -o speech.npz", f"encode recordings -o codes -c {_CHECKPOINT}"),
    (decode, "Encode and decode", "decode speech.npz -o decoded.wav", f"decode codes -o decoded -c {_CHECKPOINT}"),
    (export, "Share", f"export {_CHECKPOINT} -o model --licence cc0-1.0 --onnx"),
    (push, "Share", "push model user/name --private"),
    (info, "Understand", "info model=conv/base quantizer=rvq", f"info {_CHECKPOINT}"),
):
    app.command(cls=_Command, rich_help_panel=_panel, epilog=_example(*_examples))(_command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 if done, 1 for bad data, 2 for bad usage, 130 if interrupted, 143 if terminated.

    Args:
        arguments: arguments without the program's name; None for the arguments of this process.
    """
    if arguments is None:
        begin_in_utf8()
    given = list(map(with_home, sys.argv[1:] if arguments is None else arguments))
    try:
        with exiting_on_sigterm():
            status = app(given or ["--help"], prog_name=NAME, standalone_mode=False)
    except UserError as error:
        _fail(str(error), error.exit_status)
    except OSError as error:
        let_go_of_stdout(error)
        if isinstance(error, BrokenPipeError):  # the process that reads the output has ended
            sys.exit(1)
        _fail(str(from_system(error)), 1)
    except (typer.Abort, KeyboardInterrupt):
        _end_signalled(signal.SIGINT)
    except SystemExit as ended:
        # train prints the line itself, once for all of its processes.
        if ended.code == 128 + signal.SIGTERM and given[0] != "train":
            _end_signalled(signal.SIGTERM)
        raise
    except Exception as error:
        # An error in the command line; its class is from Click or Typer, depending on Typer's version.
        if not hasattr(error, "format_message"):
            raise
        _fail(in_words(error, typer.main.get_command(app), given, NAME), 2)
    if status == 128 + signal.SIGINT:  # some versions of Typer convert a KeyboardInterrupt to this
        _end_signalled(signal.SIGINT)
    sys.exit(status)


def _end_signalled(number: int) -> NoReturn:
    print(SIGNALLED[128 + number], file=sys.stderr)
    sys.exit(128 + number)


def _fail(message: str, status: int) -> NoReturn:
    print("error:", as_given(" ".join(message.splitlines())), file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
