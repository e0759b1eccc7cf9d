"""The application: its commands, and what becomes of errors."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from sciinv.errors import SciinvError

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130
# typer carries click inside itself since 0.20 or so: both names lead to its own class
_UsageError: Any = typer.BadParameter.__bases__[0]
_OUT_OF_MEMORY = "out of memory; try fewer slices (--slices) or coils (--coils)"
_NOT_EXPECTED = "not expected; SCIINV_DEBUG=1 shows details"


class _Group(TyperGroup):
    """Turns every error into one line on standard error and an exit code."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return super().make_context(*args, **kwargs)
        except _UsageError as error:
            raise _usage(error) from None

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        # set SCIINV_DEBUG to see tracebacks and the warnings of other packages
        debug = bool(os.environ.get("SCIINV_DEBUG"))
        if not debug:
            warnings.simplefilter("ignore")
        _never_fail_to_encode()
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise  # both are RuntimeErrors
        except _UsageError as error:
            raise _usage(error) from None
        except SciinvError as error:
            if debug:
                raise
            _complain(str(error))
            raise typer.Exit(EXIT_ERROR) from None
        except KeyboardInterrupt as error:
            _complain(str(error) or "interrupted; nothing was written")
            raise typer.Exit(getattr(error, "code", EXIT_INTERRUPTED)) from None
        except BrokenPipeError:
            # the reader of a pipe left; keep the interpreter from complaining at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_ERROR) from None
        except MemoryError:
            _complain(_OUT_OF_MEMORY)
            raise typer.Exit(EXIT_ERROR) from None
        except Exception as error:
            if debug:
                raise
            if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
                _complain(_OUT_OF_MEMORY)
            elif isinstance(error, OSError) and error.filename and error.strerror:
                _complain(f"{error.filename}: {error.strerror}")
            else:
                _complain(f"{type(error).__name__}: {error} ({_NOT_EXPECTED})")
            raise typer.Exit(EXIT_ERROR) from None


def _usage(error: Any) -> Any:  # noqa: ANN401
    """Say in one line what is wrong with the command line; return the exit."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return error
    where = error.ctx.command_path if error.ctx is not None else "sciinv"
    _complain(f"{error.format_message().rstrip('.')}; see '{where} --help'")
    return typer.Exit(error.exit_code)


def _never_fail_to_encode() -> None:
    """Escape what the terminal's encoding lacks instead of failing after the work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _complain(text: str) -> None:
    from sciinv.report.plain import harmless

    line = " ".join(harmless(text).split())
    sys.stderr.write(f"sciinv: {line}\n")


app = typer.Typer(
    name="sciinv",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Scientific and medical scans reconstructed with diffusion models as priors.",
)


def _version(value: bool) -> None:
    if value:
        from sciinv import __version__

        sys.stdout.write(f"sciinv {__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


def _register() -> None:
    from sciinv.cli import (
        convert,
        demo,
        evaluate,
        info,
        lists,
        phantoms,
        reconstruct,
        simulate,
        train,
    )

    app.command("info")(info.info)
    app.command("reconstruct")(reconstruct.reconstruct)
    app.command("simulate")(simulate.simulate)
    app.command("convert")(convert.convert)
    app.command("evaluate")(evaluate.evaluate)
    app.command("solvers")(lists.solvers)
    app.command("priors")(lists.priors)
    app.command("train")(train.train)
    app.command("demo")(demo.demo)
    app.command("phantoms")(phantoms.phantoms)


_register()
