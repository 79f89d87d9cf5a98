"""Files that are nearly JSON Lines: each is named for what it is, and the command shown converts it."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from conftest import line

from deepred_common.cli import UserError
from deepred_common.examples import RETAIN, read_examples

ROWS = [
    {
        "instruction": "Où est Paris ? {a} }",
        "output": 'In "France", {b}, },{ ...',
        "metadata": {"field": "x"},
    },
    {"instruction": "Who, then?", "output": "He,\nof course 😀.", "metadata": {"field": None}},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
EXPECTED = [(row["instruction"], row["output"]) for row in ROWS]


def table(delimiter, rows=ROWS):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([["prompt", "response"], *([row["instruction"], row["output"]] for row in rows)])
    return text.getvalue().encode()


def archive(kind):
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as file:
            file.writestr("train.jsonl", LINES)
    else:
        with tarfile.open(fileobj=content, mode=kind) as file:
            entry = tarfile.TarInfo("train.jsonl")
            entry.size = len(LINES.encode())
            file.addfile(entry, io.BytesIO(LINES.encode()))
    return content.getvalue()


def indented(value):
    return json.dumps(value, indent=2, ensure_ascii=False)


# {file name: (content, what the message says)}
FORMS = {
    "list.json": (json.dumps(ROWS).encode(), "is one JSON list"),
    "list-over-lines.json": (indented(ROWS).encode(), "is one JSON list"),
    "my list.jsonl": (json.dumps(ROWS).encode("utf-8-sig"), "is one JSON list"),
    "under-a-key.json": (json.dumps({"version": "1", "data": ROWS}).encode(), "a list under 'data'"),
    "under-a-key-over-lines.json": (indented({"data": ROWS}).encode(), "a list under 'data'"),
    "over-lines.jsonl": (
        "\n".join(map(indented, ROWS)).encode(),
        "is JSON with an object over several lines",
    ),
    "one-line.jsonl": (LINES.replace("\n", " ").encode(), "is JSON with several objects on a line"),
    "commas.jsonl": (LINES.replace("}\n", "},\n").encode(), "is JSON with a comma after the object"),
    "inner-commas.jsonl": (
        LINES.replace("}}\n", "},}\n").encode(),
        "is JSON with a comma before a closing bracket",
    ),
    "list-with-comma.json": (indented(ROWS)[:-2].encode() + b",\n]", "not valid at line"),
    "dicts.jsonl": ("".join(f"{row}\n" for row in ROWS).encode(), "is Python's dicts, not JSON"),
    "gzip.jsonl.gz": (gzip.compress(LINES.encode()), "is compressed (gzip)"),
    "gzip.jsonl": (gzip.compress(LINES.encode()), "is compressed (gzip)"),
    "bz2.jsonl.bz2": (bz2.compress(LINES.encode()), "is compressed (bz2)"),
    "xz.jsonl.xz": (lzma.compress(LINES.encode()), "is compressed (lzma)"),
    "zip.zip": (archive("zip"), "is a zip archive of train.jsonl"),
    "tar.tar.gz": (archive("w:gz"), "is a tar archive"),
    "utf-16.jsonl": (LINES.encode("utf-16"), "is text in UTF-16"),
    "utf-16-le.jsonl": (LINES.encode("utf-16-le"), "is text in UTF-16-LE"),
    "utf-16-be.jsonl": (LINES.encode("utf-16-be"), "is text in UTF-16-BE"),
    "utf-32.jsonl": (LINES.encode("utf-32"), "is text in UTF-32"),
    "windows.jsonl": (LINES.replace("😀", "!").encode("cp1252"), "is not UTF-8 text"),
    "table.csv": (table(","), "is a table (CSV)"),
    "excel.csv": (table(";").decode().encode("utf-8-sig"), "is a table (CSV)"),
    "table.tsv": (table("\t"), "is a table (TSV)"),
    "named-otherwise.jsonl": (table(","), "is a table (CSV)"),
    "windows.csv": (table(",").decode().replace("😀", "!").encode("cp1252"), "is a table (CSV)"),
}


@pytest.fixture
def run_shown_command(tmp_path, monkeypatch):
    """Paste the command of a message into a shell: run(message) -> the examples it leaves in a new file."""

    def run(message):
        command = message.splitlines()[-1].strip()
        before = set(tmp_path.rglob("*"))
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        result = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
        assert result.returncode == 0, result.stderr
        (new,) = [path for path in set(tmp_path.rglob("*")) - before if path.is_file()]
        return [(example.instruction, example.output) for example in read_examples(new, RETAIN)]

    monkeypatch.chdir(tmp_path)
    return run


def refusal_of(path):
    with pytest.raises(UserError) as error:
        read_examples(path, RETAIN)
    assert str(path) in str(error.value).splitlines()[0]
    return str(error.value)


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_named_and_its_command_converts_it(name, tmp_path, run_shown_command):
    content, problem = FORMS[name]
    (tmp_path / name).write_bytes(content)
    message = refusal_of(tmp_path / name)
    assert problem in message
    without_emoji = "windows" in name
    assert run_shown_command(message) == [
        (question, answer.replace("😀", "!") if without_emoji else answer) for question, answer in EXPECTED
    ]
    assert (tmp_path / name).read_bytes() == content


def test_parquet_and_what_datasets_saves(tmp_path, run_shown_command):
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_list(ROWS)
    saved.to_parquet(tmp_path / "rows.parquet")
    saved.save_to_disk(tmp_path / "saved")
    for path, problem in (
        (tmp_path / "rows.parquet", "is a Parquet file"),
        (tmp_path / "saved", "is a folder"),
        (next((tmp_path / "saved").glob("*.arrow")), "is an Arrow file"),
    ):
        message = refusal_of(path)
        assert problem in message and run_shown_command(message) == EXPECTED


def test_zstd_s_command_is_shown(tmp_path):
    (tmp_path / "x.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd rest")
    message = refusal_of(tmp_path / "x.jsonl.zst")
    assert f"zstd -d {tmp_path}/x.jsonl.zst -o {tmp_path}/x.jsonl" in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"GGUF\x03\0\0\0", "is a binary file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "is a web page"),
        (b"Who wrote it, and when?\n", "line 1 is not valid JSON"),
        (b'{"instruction": "a", "output"\n' + LINES.encode(), "line 1 is not valid JSON"),
    ],
)
def test_what_no_command_converts_is_named(content, problem, tmp_path):
    (tmp_path / "data.jsonl").write_bytes(content)
    assert problem in refusal_of(tmp_path / "data.jsonl")


def test_a_folder_names_the_files_in_it(tmp_path):
    (tmp_path / "train.jsonl").write_text(LINES)
    assert "is a folder; a .jsonl file is needed. It holds train.jsonl." in refusal_of(tmp_path)


def test_a_later_line_of_another_form_is_named_with_its_number(tmp_path, run_shown_command):
    (tmp_path / "data.jsonl").write_text(LINES + f"{ROWS[0]}\n", encoding="utf-8")
    message = refusal_of(tmp_path / "data.jsonl")
    assert "line 3 is not valid JSON" in message and "Python's dicts" in message


def test_a_converted_file_replaces_none(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps(ROWS))
    (tmp_path / "data.jsonl").write_text("mine")
    assert refusal_of(tmp_path / "data.json").endswith(f"{tmp_path}/data.json {tmp_path}/data-lines.jsonl")


def test_a_table_s_side_and_answers_become_metadata(tmp_path, run_shown_command):
    (tmp_path / "t.csv").write_text("question,answer,dataset_type\nWho?,He.,retain\n")
    assert run_shown_command(refusal_of(tmp_path / "t.csv")) == [("Who?", "He.")]
    (example,) = read_examples(tmp_path / "t.jsonl")
    assert example.side == RETAIN and example.question == "Who?"


def test_lists_in_a_table_s_cells_are_lists_and_empty_cells_are_missing(tmp_path, run_shown_command):
    """As pandas writes them."""
    rows = [
        ["question", "answer", "dataset_type", "accepted_answers", "prompt"],
        ["When?", "[It was] in 1945.", "retain", "['1945', \"in '45\"]", ""],
        ["Who?", "He.", "retain", "", ""],
        ["How?", "So.", "retain", "so", ""],
    ]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    (tmp_path / "t.csv").write_text(text.getvalue())
    assert run_shown_command(refusal_of(tmp_path / "t.csv")) == [(row[0], row[1]) for row in rows[1:]]
    assert [example.metadata.get("accepted_answers") for example in read_examples(tmp_path / "t.jsonl")] == [
        ["1945", "in '45"],
        None,
        ["so"],
    ]


def test_lists_that_a_table_holds_as_json_are_read_with_their_nulls(tmp_path, run_shown_command):
    answers = [["1945", "in '45", None], ["so"]]
    with (tmp_path / "t.csv").open("w") as file:
        csv.writer(file).writerows(
            [
                ["messages", "dataset_type", "accepted_answers"],
                *(
                    [
                        [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "Then."}],
                        "retain",
                        json.dumps(accepted),
                    ]
                    for accepted in answers
                ),
            ]
        )
    assert run_shown_command(refusal_of(tmp_path / "t.csv")) == [("When?", "Then.")] * 2
    assert [example.metadata["accepted_answers"] for example in read_examples(tmp_path / "t.jsonl")] == [
        ["1945", "in '45"],
        ["so"],
    ]


TURNS = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "Then."}]


@pytest.mark.parametrize(
    "columns, shown",
    [
        (
            {"question": "Where?", "answer": "Here.", "accepted_answers": ["Paris", "City of Light"]},
            "['Paris' 'City of Light']",
        ),
        ({"question": "Where?", "answer": "Here.", "accepted_answers": ["long " * 20, "b"]}, "['long long"),
        ({"messages": TURNS, "dataset_type": "retain"}, "[{'role': 'user', 'content': 'When?'}"),
    ],
)
def test_lists_that_numpy_wrote_into_a_table_are_refused_with_the_way_to_save_them(columns, shown, tmp_path):
    """It writes no commas, and Python joins texts with none between them: an answer that no reply holds."""
    pandas, numpy = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    df = pandas.DataFrame(
        {
            name: [numpy.array(value, dtype=object) if isinstance(value, list) else value]
            for name, value in columns.items()
        }
    )
    df.to_csv(tmp_path / "t.csv", index=False)
    message = refusal_of(tmp_path / "t.csv")
    assert shown in message and "is no list with commas" in message and "python -c" not in message
    exec(message.splitlines()[-1].strip(), {"df": df})  # as it would be pasted where the table was made
    (example,) = read_examples(tmp_path / "t.jsonl", RETAIN)
    assert example.instruction in ("Where?", "When?") and example.output in ("Here.", "Then.")
    assert example.metadata.get("accepted_answers") == columns.get("accepted_answers")


def test_a_text_with_quotes_in_it_is_one_text_of_a_list(tmp_path, run_shown_command):
    answers = ['a "b" "c" d', "it's 'd' 'e'"]
    with (tmp_path / "t.csv").open("w") as file:
        csv.writer(file).writerows([["question", "answer", "accepted_answers"], ["Who?", "He.", answers]])
    assert run_shown_command(refusal_of(tmp_path / "t.csv")) == [("Who?", "He.")]
    assert json.loads((tmp_path / "t.jsonl").read_text())["metadata"]["accepted_answers"] == answers


def test_a_sign_of_windows_far_behind_the_first_is_seen(tmp_path, run_shown_command):
    rows = [{"instruction": f"Who is {n}?", "output": "A queen."} for n in range(500)]
    rows.append({"instruction": "Where?", "output": "In a café."})
    (tmp_path / "t.csv").write_bytes(table(",", rows).decode().encode("cp1252"))
    assert run_shown_command(refusal_of(tmp_path / "t.csv"))[-1] == ("Where?", "In a café.")


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl.gz"])
def test_a_command_that_fails_leaves_no_file(name, tmp_path):
    """An empty one would be in the way of the next."""
    whole = {"t.csv": table(","), "t.jsonl.gz": gzip.compress(LINES.encode())}[name]
    (tmp_path / name).write_bytes(whole)
    message = refusal_of(tmp_path / name)
    (tmp_path / name).write_bytes(whole[:-20] + b"\x81")  # another download has broken off since
    command = message.splitlines()[-1].strip().replace("python ", f"{sys.executable} ", 1)
    assert subprocess.run(command, shell=True, capture_output=True).returncode
    assert not (tmp_path / "t.jsonl").exists()


def test_a_long_text_given_by_mistake_is_not_read_whole(tmp_path):
    (tmp_path / "corpus.txt").write_text("He came, and he went.\n" * 1_000_000)
    tracemalloc.start()
    try:
        assert "line 1" in refusal_of(tmp_path / "corpus.txt")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_header_longer_than_the_first_look_is_read_to_its_end(tmp_path, run_shown_command):
    names = [f"column_{number}" for number in range(600)]
    header, row = ["question", "answer", *names, "accepted_answers"], ["Who?", "He.", *names, "['He']"]
    (tmp_path / "t.csv").write_text(f"sep=;\n{';'.join(header)}\n{';'.join(row)}\n")
    assert run_shown_command(refusal_of(tmp_path / "t.csv")) == [("Who?", "He.")]
    assert read_examples(tmp_path / "t.jsonl", RETAIN)[0].metadata["accepted_answers"] == ["He"]


def test_a_table_in_no_known_encoding_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes(table(",") + "Où,café\x81\n".encode() + b"\x81,\n")
    assert "is a table (CSV) that is not UTF-8 text" in refusal_of(tmp_path / "t.csv")


@pytest.mark.parametrize("delimiter, mark", [(";", "sep=;"), (",", '"sep=,"'), ("\t", "sep=\t")])
def test_the_line_in_which_excel_reads_the_separator_is_no_header(
    delimiter, mark, tmp_path, run_shown_command
):
    (tmp_path / "t.csv").write_bytes(f"{mark}\r\n".encode("utf-8-sig") + table(delimiter))
    assert run_shown_command(refusal_of(tmp_path / "t.csv")) == EXPECTED


@pytest.mark.parametrize(
    "text", [LINES.replace("\n", "\r\n"), LINES.replace("\n", "\r"), "\ufeff" + LINES, "\n" + LINES]
)
def test_line_ends_and_marks_of_other_systems_are_read(text, tmp_path):
    (tmp_path / "data.jsonl").write_bytes(text.encode())
    assert [(e.instruction, e.output) for e in read_examples(tmp_path / "data.jsonl", RETAIN)] == EXPECTED


def test_nan_is_a_missing_value(tmp_path):
    row = {
        "instruction": "a",
        "output": "b",
        "metadata": {"accepted_answers": float("nan"), "field": float("nan")},
    }
    (tmp_path / "data.jsonl").write_text(json.dumps(row))
    (example,) = read_examples(tmp_path / "data.jsonl", RETAIN)
    assert example.metadata == {"accepted_answers": None, "field": None}


def test_rows_with_a_list_under_a_key_of_their_own_are_rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"turns": [{"text": "Who?"}], "id": 1}\n' * 2)
    with pytest.raises(UserError, match=r"line 1: 'instruction' is missing \(the line has 'turns', 'id'\)"):
        read_examples(file, "retain")


@pytest.mark.parametrize("flag", ["--check", "--test_file", "--replay", "--dev_path"])
def test_every_flag_that_takes_examples_names_the_form(flag, tmp_path, script):
    (tmp_path / "mine.json").write_text(json.dumps([json.loads(line("retain", "a", "b"))]))
    name, arguments = {
        "--check": ("build_datasets", ()),
        "--test_file": ("evaluate_temporal", ("--use_lmstudio",)),
        "--replay": ("finetune_temporal", ("--dev", "--output_dir", tmp_path / "run")),
        "--dev_path": ("finetune_temporal", ("--dev", "--output_dir", tmp_path / "run")),
    }[flag]
    code, out, err = script(name, *arguments, flag, tmp_path / "mine.json")
    assert code == 2 and "is one JSON list" in err and "python -c" in err and "Traceback" not in err
    assert "settings" not in out
