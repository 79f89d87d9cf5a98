import pytest
from conftest import line

from deepred_common.cli import UserError
from deepred_common.examples import CHAT, RETAIN, UNLEARN, balanced_sample, count_sides, read_examples

GOOD = line("retain", "Who?", "He.")


def write(tmp_path, text, encoding="utf-8"):
    file = tmp_path / "data.jsonl"
    file.write_bytes(text.encode(encoding))
    return file


def test_reads_lines_in_order_and_skips_blank_ones(tmp_path):
    file = write(tmp_path, GOOD + "\n\n" + line("unlearn", "What?", "No idea.") + "\n")
    assert [(e.instruction, e.output, e.side) for e in read_examples(file)] == [
        ("Who?", "He.", RETAIN),
        ("What?", "No idea.", UNLEARN),
    ]


def test_reads_a_file_saved_on_windows(tmp_path):
    file = write(tmp_path, GOOD + "\r\n", "utf-8-sig")
    assert read_examples(file)[0].output == "He."


def test_side_from_temporal_class_or_from_the_file(tmp_path):
    file = write(
        tmp_path, '{"instruction": "a", "output": "b", "metadata": {"temporal_class": "post_cutoff"}}\n'
    )
    assert read_examples(file)[0].side == UNLEARN
    file = write(tmp_path, '{"instruction": "a", "output": "b"}\n')
    assert read_examples(file, RETAIN)[0].side == RETAIN


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("my_retain_val.jsonl", RETAIN),
        ("Unlearn.jsonl", UNLEARN),
        ("unlearn/val.jsonl", UNLEARN),
        ("chat_val.jsonl", CHAT),
        ("retain_chat.jsonl", RETAIN),
        ("chat/retain.jsonl", RETAIN),
    ],
)
def test_where_neither_the_line_nor_a_flag_says_the_side_the_file_s_name_does(tmp_path, name, side):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"instruction": "a", "output": "b"}\n' + line("unlearn", "c", "d"))
    assert [example.side for example in read_examples(file)] == [side, UNLEARN]


@pytest.mark.parametrize("name", ["questions.jsonl", "retain_unlearn.jsonl", "retain_folder/all.jsonl"])
def test_a_side_that_nothing_says_is_asked_for(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"instruction": "a", "output": "b"}\n')
    with pytest.raises(UserError, match=r"line 1 does not say its side: .* or the file's name must hold one"):
        read_examples(file)


def test_alpaca_input_continues_the_instruction(tmp_path):
    file = write(tmp_path, '{"instruction": "Translate.", "input": "Bonjour", "output": "Hello"}\n')
    assert read_examples(file, RETAIN)[0].instruction == "Translate.\n\nBonjour"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{broken", "line 7 is not valid JSON"),
        ("[1, 2]", "line 7 holds a JSON list"),
        ('{"output": "x"}', "line 7: 'instruction' is missing"),
        ('{"instruction": "x", "output": "  "}', "line 7: 'output' is"),
        ('{"instruction": 5, "output": "x"}', "line 7: 'instruction' is 5"),
        ('{"instruction": "a", "output": "b", "metadata": []}', "does not say its side"),
        ('{"instruction": "a", "output": "b", "metadata": [1]}', "'metadata' must be an object"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_what_was_found(tmp_path, bad, message):
    file = write(tmp_path, "\n".join([GOOD] * 6 + [bad]))
    with pytest.raises(UserError, match="line 7") as error:
        read_examples(file)
    assert message in str(error.value) and str(file) in str(error.value)


def test_a_line_of_the_other_side_is_refused(tmp_path):
    with pytest.raises(UserError, match="says it is 'retain', but the file was given as unlearn data"):
        read_examples(write(tmp_path, GOOD), UNLEARN)


def test_missing_empty_folder_and_not_utf8(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_examples(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="is empty"):
        read_examples(write(tmp_path, "\n\n"))
    with pytest.raises(UserError, match="is a folder"):
        read_examples(tmp_path)
    with pytest.raises(UserError, match="not UTF-8"):
        read_examples(write(tmp_path, line("retain", "Où?", "Là."), "latin-1"))


def test_a_limited_sample_is_balanced_seeded_and_in_order(data_file):
    examples = read_examples(data_file)
    chosen = balanced_sample(examples, 6, seed=3)
    assert count_sides(chosen) == {RETAIN: 3, UNLEARN: 3, CHAT: 0}
    assert chosen == balanced_sample(examples, 6, seed=3) != balanced_sample(examples, 6, seed=4)
    assert chosen == [e for e in examples if e in chosen]
    assert (
        len(balanced_sample(examples[:6] + examples[6:7], 5)) == 5
    )  # one unlearn line only: the rest is retain


def test_metadata_is_brought_to_its_types_or_refused(tmp_path):
    retain = line("retain", "a", "b", accepted_answers="Bell", field=3)
    unlearn = line("unlearn", "a", "b", original_answer=1984)
    first, second = read_examples(write(tmp_path, f"{retain}\n{unlearn}"))
    assert first.metadata["accepted_answers"] == ["Bell"] and first.metadata["field"] == "3"
    assert second.metadata["original_answer"] == "1984"
    with_blanks = line("retain", "a", "b", accepted_answers=["", "Bell", " ", None])
    assert read_examples(write(tmp_path, with_blanks))[0].metadata["accepted_answers"] == ["Bell"]
    with pytest.raises(UserError, match=r"line 1: 'metadata\.accepted_answers' must be a list"):
        read_examples(write(tmp_path, line("retain", "a", "b", accepted_answers=[["x"]])))
