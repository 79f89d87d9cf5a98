"""What every script's command line shares: user errors, exit codes, and the table of resolved settings.

Nothing here knows about models or data.
"""

import argparse
import datetime
import errno
import os
import signal
import sys

EXIT_OK = 0
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """A mistake or a circumstance the user can mend: printed in one or two plain lines, exit code 2."""


class Interrupted(Exception):
    """Ctrl-C (or SIGTERM) after the work so far was put in order; the message says what was kept."""


def is_main_process():
    """False in all processes but one of a run that a launcher (accelerate, torchrun) started: those stay silent."""
    return os.environ.get("RANK", "0") == "0"


def warn(message):
    """Print one warning to stderr."""
    progress(f"warning: {message}")


def progress(message):
    """Print one progress line to stderr, so that stdout holds results only."""
    if is_main_process():
        print(message, file=sys.stderr, flush=True)


def parse(parser, argv):
    """Parse `argv`; return the namespace and the set of names that were given as flags.

    argparse itself does not tell a default from the same value typed by hand; parsing a second time over
    sentinels does.
    """
    arguments = parser.parse_args(argv)
    unset = object()
    given = parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(vars(arguments), unset)))
    return arguments, {name for name, value in vars(given).items() if value is not unset}


def print_settings(title, arguments, given, environment=None, resolved=None):
    """Print every setting with where it came from: flag, environment variable, default, or worked out here.

    environment: {setting name: environment variable that supplies its default, if that variable is set}.
    resolved: {name: (value, source)} for what the script worked out itself; it wins over the parsed value.
    Returns the same table as {name: {"value", "source"}}, for run.json.
    """
    table = {}
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
    for name, entry in table.items():
        print(f"  {name:<{width}}  {entry['value']}  [{entry['source']}]")
    sys.stdout.flush()
    return table


def positive_int(text):
    """argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def positive_float(text):
    """argparse type: a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def day(text):
    """argparse type: a date such as "1969-07-20", as that text."""
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").date().isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 1969-07-20") from None


def ratio(text):
    """argparse type: "2:1" as (2.0, 1.0)."""
    first, _, second = text.partition(":")
    return positive_float(first), positive_float(second)


def _raise_interrupt(signum, frame):
    raise KeyboardInterrupt


def run(main, argv=None):
    """Run a script's `main(argv)` and turn what it raises into the exit code and the lines a user sees."""
    # A supervisor's SIGTERM should put things in order exactly as Ctrl-C does.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    if not is_main_process():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the rest of this process's life)
    try:
        return main(argv) or EXIT_OK
    except UserError as error:
        progress(f"error: {error}")
        return EXIT_USER_ERROR
    except Interrupted as error:
        progress(f"\ninterrupted: {error}")
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print("\ninterrupted: nothing half-written was left behind.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `script | head` closed stdout: point it elsewhere, so that the interpreter's own last flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("deepred_common", "__main__"):
            raise
        print(
            f"error: the Python package {error.name!r} is not installed in {sys.executable}.\n"
            "Run scripts/quickstart.sh --setup-only, or: pip install -r requirements.txt -c constraints.txt",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        print(f"error: cannot write {error.filename or 'the output'}: {error.strerror}.", file=sys.stderr)
        return EXIT_USER_ERROR
    except Exception as error:
        # safetensors and torch wrap a full disk in errors of their own that carry no errno.
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        print(
            "error: the disk is full; nothing whole was replaced. Free some space and run this again\n"
            "(a training run goes on with --resume_latest).",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
