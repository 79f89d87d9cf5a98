"""What every command line here shares: the parser, the table of resolved settings, errors and exit codes.

Nothing here knows about models or data.
"""

from __future__ import annotations

import argparse
import datetime
import errno
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypedDict

from deepred_common.foreign_text import ESCAPED, printable

EXIT_OK = 0
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
LISTED_FAULTS = 5  # faults of one kind that an error names
# What the operating system reports when an output cannot be written: the user's to mend, so no traceback.
FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_ALLOWED = (errno.EACCES, errno.EPERM)  # to read as well as to write: the error does not say which
WRITE_ERRORS = (*FULL, *NOT_ALLOWED, errno.EROFS)


class UserError(Exception):
    """A mistake or a circumstance that the user can mend: printed in one or two plain lines, exit code 2."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, with a message that says what was kept. No handler of errors takes it for one."""


class Parser(argparse.ArgumentParser):
    """argparse's parser, but a usage error prints one line of usage and then the error, last.

    Flags cannot be abbreviated. `--output` for `--output_path` works only until a second flag begins with
    those letters; then an old command line fails or, worse, sets another flag. Also, `parse` and training's
    resume command look flags up by their full names.
    """

    def __init__(self, **options: Any) -> None:
        self._required: list[argparse.Action] = []
        super().__init__(allow_abbrev=False, **options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """As argparse's own; required arguments are remembered for the short usage line."""
        action = super().add_argument(*names, **options)
        if action.required:
            self._required.append(action)
        return action

    def error(self, message: str) -> NoReturn:
        """Print the short usage and `message` to stderr; exit code 2."""
        words = [self.prog]
        for action in self._required:
            value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
            words += [*action.option_strings[:1], value]
        progress(f"usage: {' '.join(words)} [options], see --help\nerror: {message}")
        raise SystemExit(EXIT_USER_ERROR)


class Setting(TypedDict):
    """One row of the settings table. source: "flag", "default", "environment NAME", or a reason."""

    value: Any
    source: str


def is_main_process() -> bool:
    """True in the one process that prints: of a run started by accelerate or torchrun, the first."""
    return os.environ.get("RANK", "0") == "0"


def warn(message: str) -> None:
    """Print one warning to stderr."""
    progress(f"warning: {message}")


def progress(message: str) -> None:
    """Print one progress line to stderr, so that stdout holds results only."""
    if is_main_process():
        print(printable(message), file=sys.stderr, flush=True)


def listed(faults: Sequence[str]) -> str:
    """The first LISTED_FAULTS of a list of faults, indented, a line each, and how many more there are."""
    lines = [f"  {fault}" for fault in faults[:LISTED_FAULTS]]
    if len(faults) > LISTED_FAULTS:
        lines.append(f"  … and {len(faults) - LISTED_FAULTS} more")
    return "\n".join(lines)


def parse(parser: Parser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, set[str]]:
    """Parse `argv` (None: this process's); return the namespace, and the names of the flags that were given.

    Every flag must be named as its setting: `--lora_r` for `lora_r`.
    """
    arguments = parser.parse_args(argv)
    words = {word.partition("=")[0] for word in (sys.argv[1:] if argv is None else argv)}
    return arguments, {name for name in vars(arguments) if f"--{name}" in words}


def print_settings(
    title: str,
    arguments: argparse.Namespace,
    given: Collection[str],
    environment: Mapping[str, str] | None = None,
    resolved: Mapping[str, tuple[Any, str]] | None = None,
) -> dict[str, Setting]:
    """Print every setting with its source: flag, environment variable, default, or worked out by the script.

    environment: {setting: environment variable that supplies its default, if that variable is set}.
    resolved: {setting: (value, source)} of what the script worked out itself; it wins over the parsed value.
    Returns the same table, for run.json.
    """
    table: dict[str, Setting] = {}
    for name, value in vars(arguments).items():
        variable = (environment or {}).get(name)
        if name in given:
            source = "flag"
        elif variable and os.environ.get(variable):
            source = f"environment {variable}"
        else:
            source = "default"
        table[name] = {"value": value, "source": source}
    for name, (value, source) in (resolved or {}).items():
        table[name] = {"value": value, "source": source}
    print(title)
    width = max(len(name) for name in table)
    for name, setting in table.items():
        print(f"  {name:<{width}}  {_shown(setting['value'])}  [{setting['source']}]")
    sys.stdout.flush()
    return table


def _shown(value: Any) -> str:
    """A setting as one would type it: a ratio as 1:2, several values with spaces between them."""
    if not isinstance(value, (list, tuple)):
        return str(value)
    if all(isinstance(one, float) for one in value):
        return ":".join(f"{one:g}" for one in value)
    return " ".join(map(str, value))


def path(text: str) -> Path:
    """argparse type: a file or folder. `~` and `~user` are expanded: no shell does that after a `=`."""
    if not text:
        raise argparse.ArgumentTypeError("an empty text is not a path; is the variable set?")
    _refuse_url(text, "a path on this machine")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        user = expanded.partition("/")[0]
        raise argparse.ArgumentTypeError(
            f"{text!r} names the home folder of a user who does not exist; for a name with ~ write ./{user}"
        )
    return Path(expanded)


def model(text: str) -> str:
    """argparse type: a model's hub name, or its folder or file, expanded as in `path`."""
    _refuse_url(text, "a hub name such as Qwen/Qwen2.5-1.5B-Instruct, or a folder")
    is_path = not text or text.startswith("~") or os.path.exists(text)
    return str(path(text)) if is_path else text  # without a last slash: results name their model


def _refuse_url(text: str, wanted: str) -> None:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is a URL; give {wanted}")


def positive_int(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def port(text: str) -> int:
    """argparse type: a TCP port."""
    if not (text.isdecimal() and 1 <= int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a whole number from 1 to {2**16 - 1}")
    return int(text)


def seed(text: str) -> int:
    """argparse type: a seed that all libraries take, NumPy's among them."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return value


def positive_float(text: str) -> float:
    """argparse type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def temperature(text: str) -> float:
    """argparse type: the temperature of samples, a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value == 0:
        raise argparse.ArgumentTypeError("at 0 all samples are the greedy reply, which is asked for anyway")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def share(text: str) -> float:
    """argparse type: a number from 0 to below 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a share; it must be from 0 to below 1, such as 0.25"
        )
    return number


def percent(text: str) -> float:
    """argparse type: "5%" or "5" as the share 0.05; from 1 % to 99 %."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = 0
    if not 1 <= number <= 99:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate from 1% to 99%, such as 5%")
    return number / 100


def day(text: str) -> str:
    """argparse type: a date such as "1969-07-20", as that text."""
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").date().isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 1969-07-20") from None


def ratio(text: str) -> tuple[float, float]:
    """argparse type: "2:1" as (2.0, 1.0)."""
    try:
        first, second = text.split(":")
        return positive_float(first), positive_float(second)
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a ratio such as 2:1") from None


def _raise_interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a script's `main(argv)`; turn what it raises into the exit code and the lines that a user sees."""
    # A supervisor's SIGTERM should save what is finished exactly as Ctrl-C does.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    # A terminal or pipe that is not UTF-8 gets a quotation mark as "\u2019", and the program goes on.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)
    if not is_main_process():
        # It stays open for the rest of this process's life.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        return main(argv) or EXIT_OK
    except UserError as error:
        progress(f"error: {error}")
        return EXIT_USER_ERROR
    except Interrupted as error:
        progress(f"\ninterrupted: {error}")
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print("\ninterrupted: no unfinished output was left behind.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `script | head` closed stdout: point it elsewhere, so that the interpreter's last flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("deepred_common", "__main__"):
            raise
        root = shlex.quote(str(Path(__file__).resolve().parent.parent))
        print(
            f"error: the Python package {error.name!r} is not installed in {sys.executable}.\n"
            f"Run {root}/scripts/quickstart.sh --setup-only, or: "
            f"pip install -r {root}/requirements.txt -c {root}/constraints.txt",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    except Exception as error:
        text = write_error(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return EXIT_USER_ERROR


def write_error(error: BaseException) -> str | None:
    """What to say of an error that means that an output cannot be written, or that a file may not be opened.

    None for other errors.
    """
    where = error.filename if isinstance(error, OSError) and error.filename else "the output"
    number = error.errno if isinstance(error, OSError) else _wrapped_errno(error)
    if number in FULL:
        return (
            f"cannot write {where}: the disk is full. Nothing that existed was replaced.\n"
            "Free some space and run this again."
        )
    if number in NOT_ALLOWED:
        return (
            f"cannot open {where}: {os.strerror(number)}.\n"
            "Make it readable, or writable if it is an output, and run this again."
        )
    if number == errno.EROFS:
        return f"cannot write {where}: {os.strerror(number)}.\nMake it writable and run this again."
    return None


def _wrapped_errno(error: BaseException) -> int | None:
    """The errno that safetensors and torch wrap in errors of their own, if it is one of writing."""
    text = str(error)
    for number in (*FULL, errno.EROFS):
        if os.strerror(number) in text:
            return number
    # torch.save, whose file does not grow as it should, gives no reason.
    return errno.ENOSPC if "inline_container" in text and "unexpected pos" in text else None
