"""The command `llmdeploy`: runs one verb and turns whatever happens into text for a person and an exit code.

0: done; 1: an error, or an answer that is no; 2: changes, for `plan --detailed-exitcode` alone; 130: stopped by the user.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from .errors import LlmdeployError

_BROKEN_PIPE = 141
"""128 + SIGPIPE: what a shell reports for any program whose reader went away."""

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Only a bug of llmdeploy shows a traceback."""
    _leave_garbage()
    _need_no_plugins()
    _never_fail_to_encode()
    _end_like_ctrl_c()
    try:
        code = _run(arguments)
        _flush()
        return code
    except BrokenPipeError:
        _silence()
        return _BROKEN_PIPE
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):  # typer's own way out of a broken pipe
            raise
        _silence()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return _INTERRUPTED
    except LlmdeployError as error:
        _tell(error)
        return error.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO) or error.filename:
            return _bug()
        _silence()
        print(f"Error: cannot write the output: {error.strerror}", file=sys.stderr)
        return 1
    except Exception:  # noqa: BLE001, RUF100 - the last line of defence: whatever comes here is a bug and is told as one
        return _bug()


def _run(arguments: Sequence[str] | None) -> int:
    from typer import Abort, TyperException

    from .cli.root import root

    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        result: Any = root().main(args=words or ["--help"], prog_name="llmdeploy", standalone_mode=False)
        if result == _INTERRUPTED:  # typer's answer to Ctrl-C
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except Abort:
        raise KeyboardInterrupt from None
    except TyperException as error:
        return _usage(error)


def _usage(error: Any) -> int:
    """Tell a wrong command line. Exit code 1: 2 means "there are changes" here."""
    context = getattr(error, "ctx", None)
    if context is not None:
        print(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n", file=sys.stderr)
    print(f"Error: {error.format_message()}", file=sys.stderr)
    return 1


def _tell(error: LlmdeployError) -> None:
    from .views.errors import error_lines
    from .views.screen import Screen

    _try_flush()
    Screen(sys.stderr).write(error_lines(error))


def _bug() -> int:
    import traceback

    from . import __version__

    _try_flush()
    traceback.print_exc()
    print(f"\nThis is a bug of llmdeploy {__version__}. Please report it with the lines above.", file=sys.stderr)
    return 1


def _leave_garbage() -> None:
    """Look for garbage less often: a fifth of a short command's time went into it.

    What is imported stays until the end, so that searching it while it grows finds nothing; and at the end the operating system
    takes everything back at once, so that Python need not search it a last time.
    """
    gc.set_threshold(200_000)
    atexit.register(gc.freeze)


def _need_no_plugins() -> None:
    """Keep pydantic from searching every installed package for plugins of its own before the first model; typer does the same."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def _never_fail_to_encode() -> None:
    """A name that the locale cannot write is written with escapes."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _end_like_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP unwind the command as Ctrl-C does: a lock in a bucket does not end with its process."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        with suppress(ValueError):  # only a main thread hears signals
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)


def _flush() -> None:
    if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is None when the caller closed descriptor 1
        sys.stdout.flush()


def _try_flush() -> None:
    """Let what was written come before the error; that it cannot be written must not hide the error."""
    try:
        _flush()
    except OSError:
        _silence()


def _silence() -> None:
    """Let Python's own flush at exit find nothing to complain about."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
