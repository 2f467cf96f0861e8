"""The verbs, and what happens when one fails."""

from __future__ import annotations

import codecs
import difflib
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.cli.building import export as export_verb
from edgesparse_runtime.cli.building import pack as pack_verb
from edgesparse_runtime.cli.building import poc as poc_verb
from edgesparse_runtime.cli.building import quantize as quantize_verb
from edgesparse_runtime.cli.building import quickstart as quickstart_verb
from edgesparse_runtime.cli.building import sign as sign_verb
from edgesparse_runtime.cli.building import train as train_verb
from edgesparse_runtime.cli.building import update as update_verb
from edgesparse_runtime.cli.checking import breakeven as breakeven_verb
from edgesparse_runtime.cli.checking import compare as compare_verb
from edgesparse_runtime.cli.checking import data as data_verb
from edgesparse_runtime.cli.checking import doctor as doctor_verb
from edgesparse_runtime.cli.checking import evaluate as evaluate_verb
from edgesparse_runtime.cli.checking import explain as explain_verb
from edgesparse_runtime.cli.checking import inspect as inspect_verb
from edgesparse_runtime.cli.checking import profile as profile_verb
from edgesparse_runtime.cli.checking import report as report_verb
from edgesparse_runtime.cli.checking import sbom as sbom_verb
from edgesparse_runtime.cli.checking import verify as verify_verb
from edgesparse_runtime.cli.command import as_command
from edgesparse_runtime.cli.running import deploy as deploy_verb
from edgesparse_runtime.cli.running import events as events_verb
from edgesparse_runtime.cli.running import monitor as monitor_verb
from edgesparse_runtime.cli.running import rollout as rollout_verb
from edgesparse_runtime.cli.running import run as run_verb
from edgesparse_runtime.cli.running import serve as serve_verb
from edgesparse_runtime.cli.running import wheelhouse as wheelhouse_verb
from edgesparse_runtime.data.escape import escape_terminal
from edgesparse_runtime.errors import EdgeSparseError, Interrupted

VERBS: dict[str, Callable[..., None]] = {
    "quickstart": quickstart_verb.quickstart,
    "data": data_verb.data,
    "train": train_verb.train,
    "export": export_verb.export,
    "quantize": quantize_verb.quantize,
    "verify": verify_verb.verify,
    "evaluate": evaluate_verb.evaluate,
    "explain": explain_verb.explain,
    "poc": poc_verb.poc,
    "report": report_verb.report,
    "run": run_verb.run,
    "monitor": monitor_verb.monitor,
    "events": events_verb.events,
    "update": update_verb.update,
    "rollout": rollout_verb.rollout,
    "serve": serve_verb.serve,
    "deploy": deploy_verb.deploy,
    "profile": profile_verb.profile,
    "compare": compare_verb.compare,
    "breakeven": breakeven_verb.breakeven,
    "inspect": inspect_verb.inspect,
    "pack": pack_verb.pack,
    "unpack": pack_verb.unpack,
    "sign": sign_verb.sign,
    "sbom": sbom_verb.sbom,
    "wheelhouse": wheelhouse_verb.wheelhouse,
    "doctor": doctor_verb.doctor,
}
INTERRUPTED = 130
# typer's class for a missing argument and the like; only this subclass of it is public.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
# Errors that a path given by the caller can cause.
WRONG_PLACE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}

app = typer.Typer(
    help="Small transformers with adaptively sparse attention: train, export, quantize, profile, run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"edgesparse {tool_version()}")
        raise typer.Exit()


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    if debug:
        os.environ["EDGESPARSE_DEBUG"] = "1"


for _name, _verb in VERBS.items():
    app.command(_name)(as_command(_verb))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    verb = next((a for a in arguments if not a.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        near = difflib.get_close_matches(verb, list(VERBS), n=1)
        hint = f" Did you mean `edgesparse {near[0]}`?" if near else f" Verbs are {', '.join(VERBS)}."
        print(f"edgesparse: error: unknown verb {verb!r}.{hint}", file=sys.stderr)
        return 2
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        print(
            "edgesparse: error: standard output is closed. Redirect it to a file or to /dev/null.",
            file=sys.stderr,
        )
        return 2
    _accept_any_text()
    try:
        # Not standalone: typer would print four lines for a missing argument, and nothing for Ctrl-C.
        code = app(args=arguments, prog_name="edgesparse", standalone_mode=False)
        if code == INTERRUPTED:
            print("edgesparse: interrupted", file=sys.stderr)
        return code if isinstance(code, int) else 0
    except USAGE_ERROR as error:
        return _show_usage(error)
    except Interrupted as error:
        print(f"edgesparse: interrupted; {error}", file=sys.stderr)
        return error.exit_code
    except EdgeSparseError as error:
        _show(error)
        print(f"edgesparse: error: {_one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("edgesparse: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output closed it; closing stdout again must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except OSError as error:
        _show(error)
        print(f"edgesparse: error: {_describe(error)}", file=sys.stderr)
        return 2 if error.errno in WRONG_PLACE and error.filename is not None else 1
    except Exception as error:
        _show(error)
        print(
            f"edgesparse: error: unexpected {type(error).__name__}: {_one_line(error).rstrip('.')}. "
            "This is a bug in EdgeSparse; rerun with --debug for a traceback.",
            file=sys.stderr,
        )
        return 1


def _accept_any_text() -> None:
    """Print what the locale's encoding lacks, such as half a file name, escaped instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Python leaves ASCII for the C locale only where it is told not to use UTF-8 there.
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if is_ascii else None, errors="backslashreplace")


def _show_usage(error: Any) -> int:
    """One line for a missing argument or an unknown option; the help where nothing was given."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    context = error.ctx
    verb = "edgesparse" if context is None else context.command_path
    print(
        f"edgesparse: error: {_one_line(error.format_message()).rstrip('.')}. See `{verb} --help`.",
        file=sys.stderr,
    )
    return 2


def _describe(error: OSError) -> str:
    """The system's reason, and the file."""
    if error.strerror is None:
        return _one_line(error)
    if error.filename is None:
        return f"reading or writing failed: {error.strerror}."
    return f"{escape_terminal(os.fsdecode(error.filename))}: {error.strerror}."


def _one_line(error: BaseException) -> str:
    return escape_terminal(" ".join(str(error).split()))


def _show(error: BaseException) -> None:
    if os.environ.get("EDGESPARSE_DEBUG"):
        traceback.print_exception(error)
