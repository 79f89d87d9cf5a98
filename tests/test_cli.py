"""What every command line shares: the parser's errors, which flags were given, the settings table."""

import argparse
import errno
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from deepred_common import cli

COMMANDS = {
    "finetune_temporal.py": [ROOT / "scripts/finetune_temporal.py"],
    "merge_lora.py": [ROOT / "scripts/merge_lora.py"],
    "convert_to_gguf.py": [ROOT / "scripts/convert_to_gguf.py"],
    "evaluate_temporal.py": [ROOT / "scripts/evaluate_temporal.py"],
    "build_datasets.py": [ROOT / "scripts/build_datasets.py"],
    "measure_known.py": [ROOT / "scripts/tools/measure_known.py"],
    "score_judging.py": [ROOT / "scripts/tools/score_judging.py"],
    "python -m deepred_common.models.embedded_base": ["-m", "deepred_common.models.embedded_base"],
    "python -m deepred_common.inference.llama_server": ["-m", "deepred_common.inference.llama_server"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_flag_prints_one_line_of_usage_and_the_error_last(name: str) -> None:
    done = subprocess.run(
        [sys.executable, *COMMANDS[name], "--no_such_flag"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2 and done.stdout == ""
    usage, error = done.stderr.strip().splitlines()
    assert usage.startswith("usage: ") and name in usage and usage.endswith("see --help")
    assert error.startswith("error: ")


def test_the_short_usage_names_what_is_required(script) -> None:
    _, _, err = script("merge_lora", "--no_such_flag")
    for flag in ("--base_model BASE_MODEL", "--lora_path LORA_PATH", "--output_path OUTPUT_PATH"):
        assert flag in err.splitlines()[0]
    assert "--dtype" not in err


def parser() -> cli.Parser:
    command = cli.Parser(prog="x")
    command.add_argument("--lora_r", type=cli.positive_int, default=16)
    command.add_argument("--output_path", type=Path)
    command.add_argument_group("more").add_argument("--verify", action="store_true")
    return command


def test_flags_that_were_given_are_known_even_with_the_value_of_the_default() -> None:
    assert cli.parse(parser(), [])[1] == set()
    arguments, given = cli.parse(parser(), ["--lora_r", "16", "--output_path=a=b", "--verify"])
    assert given == {"lora_r", "output_path", "verify"} and arguments.output_path == Path("a=b")


def test_an_abbreviated_flag_is_refused(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.parse(parser(), ["--output", "x"])
    assert stop.value.code == 2 and "unrecognized arguments: --output x" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (cli.positive_int, "0", "'0' is not a whole number of at least 1"),
        (cli.positive_int, "2.5", "'2.5' is not a whole number of at least 1"),
        (cli.seed, "-1", f"'-1' is not a whole number from 0 to {2**32 - 1}"),
        (cli.seed, str(2**32), f"'{2**32}' is not a whole number from 0 to {2**32 - 1}"),
        (cli.positive_float, "nan", "'nan' is not a number above 0"),
        (cli.positive_float, "fast", "'fast' is not a number above 0"),
        (cli.day, "1969", "'1969' is not a date such as 1969-07-20"),
        (cli.ratio, "2", "'2' is not a ratio such as 2:1"),
        (cli.ratio, "2:0", "'2:0' is not a ratio such as 2:1"),
        (cli.ratio, "1:2:3", "'1:2:3' is not a ratio such as 2:1"),
    ],
)
def test_a_value_of_the_wrong_kind_is_explained_in_words(kind, text, message, capsys) -> None:
    command = cli.Parser(prog="x")
    command.add_argument("--value", type=kind)
    with pytest.raises(SystemExit):
        command.parse_args(["--value", text])
    assert f"argument --value: {message}" in capsys.readouterr().err


def test_each_setting_is_printed_with_where_it_came_from(capsys, monkeypatch) -> None:
    monkeypatch.setenv("RANKS", "8")
    arguments, given = cli.parse(parser(), ["--verify"])
    table = cli.print_settings(
        "Settings", arguments, given, {"lora_r": "RANKS"}, {"output_path": (Path("o"), "named by time")}
    )
    assert table["lora_r"] == {"value": 16, "source": "environment RANKS"}
    assert table["output_path"] == {"value": Path("o"), "source": "named by time"}
    assert "  verify       True  [flag]\n" in capsys.readouterr().out


def test_several_values_and_ratios_are_printed_as_one_types_them(capsys) -> None:
    arguments = argparse.Namespace(replay=(Path("a.jsonl"), Path("b.jsonl")), mix=(1.0, 2.5))
    cli.print_settings("Settings", arguments, {"mix"})
    assert capsys.readouterr().out.splitlines() == [
        "Settings",
        "  replay  a.jsonl b.jsonl  [default]",
        "  mix     1:2.5  [flag]",
    ]


def test_a_file_that_may_not_be_read_is_not_called_an_output(capsys) -> None:
    def main(argv) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "results/eval.json")

    assert cli.run(main) == cli.EXIT_USER_ERROR
    err = capsys.readouterr().err
    assert "error: cannot open results/eval.json: Permission denied." in err and "readable" in err
    assert "cannot write" not in err
