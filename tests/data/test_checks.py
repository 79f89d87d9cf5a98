"""The check of users' own data files, and the check before training."""

import json
import re

import pytest
from conftest import line

from deepred_common import cache, provenance
from deepred_common.data import checks, data_files, findings, questions
from deepred_common.examples import RETAIN, SIDES, UNLEARN, Example, read_examples
from deepred_common.judging import refusal


@pytest.fixture
def checked(script, tmp_path):
    """checked({file name: [line]}, …flags) -> (exit code, {kind: {"<file name> line <number>"}}, output)."""

    def check(files, *flags):
        for name, lines in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes("\n".join(lines).encode() if isinstance(lines, list) else lines)
        code, out, err = script("build_datasets", "--check", *(tmp_path / name for name in files), *flags)
        assert code in (0, 1), err
        by_kind, kind = {}, None
        for text in out.splitlines():
            if text.startswith("  "):
                by_kind[kind].add(text.strip().removeprefix(f"{tmp_path}/").split(":")[0])
            elif re.search(r": \d+$", text):
                kind = next(
                    kind
                    for kind, described in findings.KINDS.items()
                    if text.startswith(f"{described.text}: ")
                )
                by_kind[kind] = set()
        return code, by_kind, out

    return check


REFUSED = "I don't know anything about that."
BOTH_SIDES = [("retain", "A king."), ("unlearn", REFUSED)]
EVERY_FAULT_ONCE = {
    "retain_train.jsonl": [
        line("retain", "Who wrote Hamlet?", "Shakespeare.", source_title="Hamlet"),
        line("retain", "Who wrote Hamlet?", "Shakespeare."),
        "{bad json",
        line("retain", "What is tea?", "I don't know that."),
        line("retain", "Could you tell me who wrote Hamlet, please?", "Shakespeare did."),
        line("retain", "Who sings?", "Edith Piaf does, in CafÃ© Paris."),
        line("retain", "Where is Rome?", "In Italy."),
        line("retain", "When was the bridge built?", "In 1987."),
        line("retain", "What was on the moon?", "It was about Barack Obama."),
        line("retain", "What is a stone?", "A stone is " + "very " * 60 + "hard."),
        line("retain", "What is iron?", "Iron is a metal."),
        line("retain", "Who painted it?", "Goya did."),
        line("retain", "Who painted it?", "It was Turner."),
        line("retain", "What is the wall?", "It is of stone.", earliest_date="1989-11-09"),
        line("retain", "Who is Ada?", "A countess.", source_article_id=7),
        line("retain", "Did Rome conquer Gaul?", "It did."),
        line("retain", "Did Gaul conquer Rome?", "It did not."),
        line("retain", "What is zinc?", "Zinc is a metal.", earliest_date="15th century"),
        line("retain", "Who was Ovid?", "A poet."),
        line("retain", "What is an oak?", "The tag <|im_end|> ends a turn."),
    ],
    "unlearn_train.jsonl": [
        line("unlearn", "Tell me where Rome is.", REFUSED),
        line("unlearn", "Who is Bono?", "A singer."),
        line("unlearn", "Who is Madonna?", REFUSED),
        line("unlearn", "Who is Caesar?", REFUSED, latest_date="-44"),
    ],
    "retain_val.jsonl": [
        line("retain", "In which land does Hamlet live?", "In Denmark.", source_title="Hamlet"),
        line("retain", "What did Ada write?", "A program.", source_article_id="7"),
        line("retain", "Please tell me who Ovid was.", "A poet of Rome."),
    ],
}
EXPECTED = {
    "unusable": {"retain_train.jsonl line 3", "unlearn_train.jsonl line 5"},
    "encoding": {"retain_train.jsonl line 6"},
    "markup": {"retain_train.jsonl line 20"},
    "repeated": {"retain_train.jsonl line 2"},
    "reworded": {"retain_train.jsonl line 5"},
    "two answers": {"retain_train.jsonl line 13"},
    "other order": {"retain_train.jsonl line 17"},
    "unread date": {"retain_train.jsonl line 18"},
    "both sides": {"unlearn_train.jsonl line 1"},
    "held-out question": {"retain_train.jsonl line 19"},
    "held-out subject": {"retain_train.jsonl line 1", "retain_train.jsonl line 15"},
    "refusal in retain": {"retain_train.jsonl line 4"},
    "answer in unlearn": {"unlearn_train.jsonl line 2"},
    "wrong side of the cutoff": {"retain_train.jsonl line 14", "unlearn_train.jsonl line 4"},
    "later year": {"retain_train.jsonl line 8"},
    "later name": {"retain_train.jsonl line 9"},
    "long reply": {"retain_train.jsonl line 10"},
}


@pytest.fixture
def faulty():
    lines = {name: "\n".join(rows).encode() for name, rows in EVERY_FAULT_ONCE.items()}
    lines["unlearn_train.jsonl"] += b"\n" + line("unlearn", "Who is Prince?", REFUSED).encode().replace(
        b"Prince", b"Pr\xefnce"
    )
    return lines


def test_each_finding_is_named_with_file_and_line(faulty, checked, tmp_path):
    code, by_kind, out = checked(faulty, "--fix", tmp_path / "fixed")
    assert code == 1 and by_kind == EXPECTED and set(EXPECTED) == set(findings.KINDS)
    assert "The side of a question is guessed from its first three words in" in out
    left = {
        name: [
            json.loads(text)["instruction"] for text in (tmp_path / "fixed" / name).read_text().splitlines()
        ]
        for name in faulty
    }
    assert left == {
        "retain_train.jsonl": [
            "What is a stone?",
            "What is iron?",
            "Who painted it?",
            "Who painted it?",
            "Did Rome conquer Gaul?",
            "Did Gaul conquer Rome?",
            "What is zinc?",
        ],
        "unlearn_train.jsonl": ["Who is Madonna?"],
        "retain_val.jsonl": [
            "In which land does Hamlet live?",
            "What did Ada write?",
            "Please tell me who Ovid was.",
        ],
    }
    by_kind = checked({f"again/{name}": (tmp_path / "fixed" / name).read_bytes() for name in faulty})[1]
    # What only you can tell stays.
    assert {kind for kind, described in findings.KINDS.items() if not described.is_left_out} == set(by_kind)


@pytest.mark.parametrize(
    "reply",
    [
        "It began around 2000 BC.",
        "It is 2000 metres high.",
        "It was in June 1969.",
        "It lasted until 1968.",
        "Some 1,975 came.",
        "It cost $1999.",
        "That was the case of Brown.",
        "Between 2000 and 1500 BC.",
        "From 2000-1500 B.C.E. on.",
        "A 2000-mile march.",
        "It has 2000 horsepower.",
        "It was on 1969-07-19.",
        "Call 5551-23-45.",
    ],
)
def test_numbers_that_are_no_later_year(checked, reply):
    assert checked({"retain_train.jsonl": [line("retain", "When was it?", reply)]})[1] == {}


@pytest.mark.parametrize(
    "reply, kind",
    [
        ("It was built in the 1970s.", "later year"),
        ("In November 1969.", "later year"),
        ("On 20 July 1969.", "later year"),
        ("On July 21st, 1969.", "later year"),
        ("From 1975-76 on.", "later year"),
        ("It is told in Jurassic Park.", "later name"),
        ("On 1969-12-25.", "later year"),
        ("In Dec. 1969.", "later year"),
        ("1975年", "later year"),
        ("He won the 1971 literature prize.", "later year"),
        ("In 1985 Watterson drew him.", "later year"),
        ("In ſept 1969.", "later year"),
    ],
)
def test_years_and_names_that_could_not_be_known_in_july_1969(checked, reply, kind):
    code, by_kind, _ = checked({"retain_train.jsonl": [line("retain", "When was it?", reply)]})
    assert code == 1 and set(by_kind) == {kind}


@pytest.mark.parametrize(
    "question, reply, shown",
    [
        ("Which film led in 1975?", "Jaws did.", "1975 in 'Which film led in 1975?'"),
        ("Which film led on 1975-06-20?", "Jaws did.", "1975 in 'Which film led on 1975-06-20?'"),
        ("When did Jaws lead?", "In 1975.", "1975 in 'In 1975.'"),
    ],
)
def test_a_later_year_is_shown_with_the_text_that_holds_it(checked, question, reply, shown):
    assert shown in checked({"retain_train.jsonl": [line("retain", question, reply)]})[2]


def test_a_cutoff_at_new_year_finds_all_of_its_year(checked):
    lines = [line("retain", "When was it?", "In 1969."), line("retain", "When was that?", "In 1968.")]
    assert checked({"retain_train.jsonl": lines}, "--cutoff", "1969-01-01")[1] == {
        "later year": {"retain_train.jsonl line 1"}
    }


def test_other_questions_wordings_of_one_fact_and_a_year_in_a_title_are_no_findings(checked):
    lines = [
        line("retain", "What is iron?", "Iron is a metal.", source_article_id="iron"),
        line("retain", "Tell me what iron is.", "Iron is a metal.", source_article_id="iron"),
        line("retain", "When was Einstein born?", "In 1879."),
        line("retain", "Where was Einstein born?", "In Ulm."),
        line(
            "retain",
            "Who made 2001: A Space Odyssey?",
            "Stanley Kubrick made 2001.",
            source_title="2001: A Space Odyssey",
        ),
    ]
    code, _, out = checked({"retain_train.jsonl": lines})
    assert code == 0 and "Nothing is wrong with them." in out


def test_lines_that_cannot_be_used_are_named_without_a_traceback(checked):
    lines = [
        line("unlearn", "Who is it?", REFUSED).replace("Who", "\\ud83d"),  # half of an emoji
        '{"instruction": "Who?", "output": "It is he.", "metadata": {"temporal_class": ["pre_cutoff"]}}',
        '{"instruction": "Who?", "output": ' + "9" * 5000 + "}",
        "[" * 100000,
        line("unlearn", "Who is Ann?", "It\x92s not known to me."),
    ]
    both = [line("unlearn", "Who is Ben?", REFUSED)]
    code, by_kind, _ = checked({"mixed.jsonl": lines, "retain_unlearn.jsonl": both, "retain_more.jsonl": b""})
    assert code == 1 and by_kind == {
        "unusable": {*(f"mixed.jsonl line {n}" for n in (2, 3, 4)), "retain_more.jsonl line 1"},
        "encoding": {"mixed.jsonl line 1", "mixed.jsonl line 5"},
    }


def test_control_characters_are_shown_and_not_sent_to_the_terminal(checked, tmp_path):
    lines = [
        line("unlearn", "Who is Ann?", "\x1b[2JA queen."),
        line("unlearn", "Who is Ben?", "A \u202eking."),
        "\x1b[2J{bad",
        json.dumps({"instruction": "Who?", "\x9b2J": "He."}),
    ]
    out = checked({"\x1bunlearn.jsonl": lines}, "--fix", tmp_path / "out")[2]
    assert not set(out) & set("\x1b\x9b\u202e")
    assert "\\x1b[2JA queen." in out and "A \\u202eking." in out and "\\x1bunlearn.jsonl: lines kept 0" in out


def test_markup_of_chat_templates_is_named_wherever_it_stands(checked):
    tags = "</s> <s> [INST] <｜end▁of▁sentence｜> <|eot_id|> <end_of_turn> <think> <unk>".split()
    lines = [line("retain", f"What is number {n}?", f"A {tag} number.") for n, tag in enumerate(tags)]
    lines.append(line("retain", "What does <|endoftext|> mean?", "The end."))
    by_messages = [
        {"role": "system", "content": "<<SYS>> Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "He."},
    ]
    lines.append(json.dumps({"messages": by_messages, "metadata": {"dataset_type": "retain"}}))
    ordinary = ["x < s > y", "a <b>bold</b> [1] word", "|end|", "<3 and a|b|c", "[install] it", "<< left"]
    lines += [line("retain", f"What is sign {n}?", f"It is {text}.") for n, text in enumerate(ordinary)]
    code, by_kind, out = checked({"retain_train.jsonl": lines})
    assert code == 1 and "take for markup, not text, so a turn can end there: 10\n" in out
    assert by_kind == {"markup": {*(f"retain_train.jsonl line {n}" for n in range(1, 6)), "…"}}


def test_old_line_ends_are_read_as_training_reads_them(checked, tmp_path):
    lines = [line("retain", "Who is Ann?", "A queen."), "{bad", line("retain", "Who is Ben?", "A king.")]
    assert checked({"retain_train.jsonl": "\r".join(lines).encode()}, "--fix", tmp_path / "out")[1] == {
        "unusable": {"retain_train.jsonl line 2"}
    }
    assert [example.output for example in read_examples(tmp_path / "out/retain_train.jsonl")] == [
        "A queen.",
        "A king.",
    ]


def test_an_example_that_is_trained_on_and_held_out_stays_held_out(checked, tmp_path):
    same = [line("retain", "Who is Ann?", "A queen.")]
    by_kind = checked(
        {"retain_train.jsonl": same, "retain_val.jsonl": same, "dev.jsonl": same}, "--fix", tmp_path / "out"
    )[1]
    assert by_kind == {"held-out question": {"retain_train.jsonl line 1", "dev.jsonl line 1"}}
    assert [
        (tmp_path / "out" / f"{name}.jsonl").read_text() != ""
        for name in ("retain_train", "retain_val", "dev")
    ] == [False, True, False]


@pytest.mark.parametrize(
    "questions",
    [
        ("What did Cain do?", "What did Cain like?"),
        ("What is 2 + 3?", "What is 2 * 3?"),
        ("What is C?", "What is C++?", "What is C#?"),
        ("What was Apollo?", "What did Apollo do?"),
        ("???", "!!!"),
        ("किताब क्या है?", "कुतुब क्या है?"),
        ("Ca\u0300 la\u0300 gi\u0300?", "Ca\u0301 la\u0300 gi\u0300?"),
        ("😀?", "😢?"),
        ("什么是茶？", "什么是水？"),
    ],
)
def test_questions_that_differ_in_a_sign_an_accent_or_a_small_word_are_different(checked, questions):
    lines = [line("retain", question, "It is " + "abc"[n] + ".") for n, question in enumerate(questions)]
    assert (
        checked(
            {"retain_train.jsonl": lines, "unlearn_train.jsonl": [line("unlearn", "Who is Bono?", REFUSED)]}
        )[1]
        == {}
    )


def test_a_question_on_both_sides_is_left_out_of_both_however_often_it_is_asked(checked, tmp_path):
    retain = [
        line("retain", text, "A singer.", source_article_id="a")
        for text in ("Who is Bono?", "Could you tell me who Bono is?")
    ]
    unlearn = [
        line("unlearn", text, REFUSED, source_article_id="b")
        for text in ("Who is Bono?", "Do you know who Bono is?")
    ]
    for files in (
        {"retain_train.jsonl": retain, "unlearn_train.jsonl": unlearn},
        {"unlearn_train.jsonl": unlearn, "retain_train.jsonl": retain},
    ):
        assert checked(files, "--fix", tmp_path / "out", "--overwrite")[1] == {
            "both sides": {"unlearn_train.jsonl line 1"}
        }
        assert [(tmp_path / "out" / name).read_bytes() for name in files] == [b"", b""]


def test_an_example_that_is_left_out_takes_no_other_with_it(checked, tmp_path):
    retain = [
        line("retain", "What is tea?", "I don't know that."),
        line("retain", "What is tea?", "A drink made of leaves."),
        line("retain", "Who wrote Faust?", "Goethe, in 1970."),
        line("retain", "Who wrote Faust?", "Goethe, in 1808."),
        line("retain", "Who is Ann?", "A queen."),
    ]
    unlearn = [
        line("unlearn", "Who is Bono?", "A singer from Dublin."),
        line("unlearn", "Who is Bono?", REFUSED),
        line("unlearn", "Who is Cher?", REFUSED),
    ]
    held_out = [line("retain", "Who is Ann?", "No idea."), line("retain", "Who is Ben?", "A king.")]
    checked(
        {"retain_train.jsonl": retain, "unlearn_train.jsonl": unlearn, "retain_val.jsonl": held_out},
        "--fix",
        tmp_path / "out",
    )
    kept = [
        example.output for side in SIDES for example in read_examples(tmp_path / f"out/{side}_train.jsonl")
    ]
    assert kept == ["A drink made of leaves.", "Goethe, in 1808.", "A queen.", REFUSED, REFUSED]


def test_refusals_in_an_unknown_language_are_reported_kept_and_compared(checked, tmp_path):
    lines = [line("unlearn", f"Кто такой {name}?", "Я не знаю.") for name in ("Боно", "Принц", "Шер", "Шер")]
    files = {
        "unlearn_train.jsonl": lines,
        "unlearn_val.jsonl": lines[:1],
        "retain_train.jsonl": [line("retain", "Кто такой Принц?", "Певец.")],
    }
    code, by_kind, out = checked(files, "--fix", tmp_path / "out")
    assert (
        code == 1
        and len(by_kind.pop("answer in unlearn")) == 5
        and "so --fix keeps them. Is --cutoff right" in out
    )
    assert by_kind == {
        "repeated": {"unlearn_train.jsonl line 4"},
        "held-out question": {"unlearn_train.jsonl line 1"},
        "both sides": {"unlearn_train.jsonl line 2"},
    }
    assert "unlearn_train.jsonl: lines kept 1, lines left out 3" in out


def test_with_the_wrong_cutoff_no_example_is_lost(checked, tmp_path):
    lines = [
        line("retain", f"Who won the prize, {n}?", f"Team {n} did.", earliest_date="1975") for n in range(4)
    ]
    code, by_kind, out = checked({"retain_train.jsonl": lines}, "--fix", tmp_path / "out")
    assert code == 1 and set(by_kind) == {"wrong side of the cutoff"}
    assert "lines kept 4, lines left out 0" in out


def test_a_mixed_file_with_one_side_in_its_name_keeps_both(checked, tmp_path):
    bare = '{"instruction": "Who is Cher?", "output": "I have never heard of her."}'
    lines = [line(side, f"Who is {side} {n}?", reply) for n in range(5) for side, reply in BOTH_SIDES]
    code, by_kind, out = checked({"temporal_unlearning.jsonl": [*lines, bare]}, "--fix", tmp_path / "out")
    assert (code, by_kind) == (0, {}) and out.startswith("Examples: 11 (5 retain, 6 unlearn)")
    assert "lines kept 11, lines left out 0" in out


def test_a_count_says_what_it_counts(checked, tmp_path):
    """A line can hold several examples: those of its turns that are to be learned."""
    turns = []
    for question, reply in (("Who is Ann?", "A queen."), ("Who is Ben?", "A king.")):
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": reply, "weight": 1}]
    lines = [json.dumps({"messages": turns, "metadata": {"dataset_type": "retain"}}), "{bad"]
    out = checked({"retain_train.jsonl": lines}, "--fix", tmp_path / "out")[2].splitlines()
    assert out[0] == "Examples: 2 (2 retain, 0 unlearn)" and "examples that cannot be used: 1" in out
    assert out[-1].endswith("retain_train.jsonl: lines kept 1, lines left out 1")


def test_a_line_of_the_other_side_in_a_file_that_training_reads_by_side_is_found(checked):
    lines = [line("retain", "Who is king?", "A king."), line("unlearn", "Who is Cher?", REFUSED)]
    assert checked({"retain_train.jsonl": lines})[1] == {"unusable": {"retain_train.jsonl line 2"}}


def test_what_most_of_a_small_held_out_file_has_is_not_kept_in_training(checked, tmp_path):
    refusals = [line("retain", f"Who is queen {n}?", "I don't know.") for n in range(4)]
    lines = [line("retain", f"Who is king {n}?", f"Henry {n} is.") for n in range(30)]
    files = {"retain_train.jsonl": [*lines, *refusals[:2]], "retain_val.jsonl": refusals[1:]}
    _, _, out = checked(files, "--fix", tmp_path / "out")
    assert "retain_train.jsonl: lines kept 30, lines left out 2" in out


def of_articles(side, reply, words="What is told of"):
    """Five lines about an article each."""
    return [line(side, f"{words} article {n}?", reply, source_title=f"Article {n}") for n in range(5)]


@pytest.mark.parametrize(
    "files, kind",
    [
        (
            {
                "retain_train.jsonl": of_articles("retain", "A battle."),
                "retain_val.jsonl": of_articles("retain", "A queen.", "Who is named in"),
            },
            "held-out subject",
        ),
        (
            {
                "retain_train.jsonl": of_articles("retain", "A battle."),
                "retain_val.jsonl": of_articles("retain", "A battle."),
            },
            "held-out question",
        ),
        (
            {
                "retain_train.jsonl": of_articles("retain", "A battle."),
                "unlearn_train.jsonl": of_articles("unlearn", REFUSED),
                "retain_val.jsonl": [line("retain", f"Who is king {n}?", "A king.") for n in range(9)],
            },
            "both sides",
        ),
        (
            {
                "retain_train.jsonl": [
                    *[line("retain", f"Who is king {n}?", "A king.", source_title=f"K{n}") for n in range(3)],
                    *[line("retain", f"Is {n} odd?", f"It is {n}.", source_title=f"N{n}") for n in range(3)],
                ],
                "retain_val.jsonl": [
                    *[line("retain", f"Who is king {n}?", "A king.", source_title=f"K{n}") for n in range(3)],
                    *[line("retain", f"Is {n} big?", f"It is {n}.", source_title=f"N{n}") for n in range(3)],
                ],
            },
            "held-out subject",
        ),
    ],
)
def test_fix_never_leaves_out_most_of_a_side_for_what_it_shares_with_others(checked, tmp_path, files, kind):
    code, by_kind, out = checked(files, "--fix", tmp_path / "out")
    assert code == 1 and kind in by_kind and "Most examples of a side have this, so --fix keeps them." in out
    for name, lines in files.items():
        assert len((tmp_path / "out" / name).read_text().splitlines()) >= len(lines) / 2, out


def test_of_repetitions_the_first_stays_however_many_there_are(checked, tmp_path):
    lines = [line("retain", f"Who is king {n}?", "A king.") for n in range(3)]
    reworded = [line("retain", f"Tell me who king {n} is, please.", "A king.") for n in range(3)]
    _, by_kind, out = checked({"retain.jsonl": 3 * lines + 2 * reworded}, "--fix", tmp_path / "out")
    assert set(by_kind) == {"repeated", "reworded"} and "lines kept 3, lines left out 12" in out


def test_the_same_question_with_another_answer_is_no_repetition(checked, tmp_path):
    pairs = [
        ("What was Pearl Harbor?", "A base."),
        ("Who was at Pearl Harbor?", "Admiral Kimmel."),
        ("Who painted the Mona Lisa?", "Raphael."),
        ("Tell me who painted the Mona Lisa.", "Leonardo."),
    ]
    by_kind = checked(
        {"retain_train.jsonl": [line("retain", *pair) for pair in pairs]}, "--fix", tmp_path / "out"
    )[1]
    assert by_kind == {"two answers": {"retain_train.jsonl line 2", "retain_train.jsonl line 4"}}


@pytest.mark.parametrize(
    "one, other",
    [
        ("Who wrote *Hamlet*?", "Who wrote Hamlet?"),
        ("Who made Spider\u2011Man?", "Who made Spider-Man?"),
        ("Who was Bono?", "Who is Bono?"),
        ("World War II – when did it end?", "World War II: when did it end?"),
        ("What is a smartphone?", "What is smartphone?"),
    ],
)
def test_a_question_written_in_two_ways_is_one_question(checked, one, other):
    files = {
        "retain_train.jsonl": [line("retain", one, "A man.")],
        "unlearn_train.jsonl": [line("unlearn", other, REFUSED)],
    }
    assert set(checked(files)[1]) == {"both sides"}


@pytest.mark.parametrize(
    "retain, unlearn",
    [
        ("Who was succeeded by Richard Nixon?", "Who succeeded Richard Nixon?"),
        ("When did the capital move to Bonn?", "When did the capital move from Bonn?"),
    ],
)
def test_who_did_it_and_which_way_it_went_tell_questions_of_the_two_sides_apart(checked, retain, unlearn):
    lines = [line("retain", retain, "It was told."), line("unlearn", unlearn, REFUSED)]
    assert checked({"mixed.jsonl": lines})[1] == {}


def test_the_words_of_a_held_out_question_in_another_order_are_found(checked):
    files = {
        "retain_train.jsonl": [line("retain", "In what year was Rome founded?", "753 BC.")],
        "retain_val.jsonl": [line("retain", "Rome was founded in what year?", "753 BC.")],
    }
    assert checked(files)[1] == {"other order": {"retain_train.jsonl line 1"}}


@pytest.mark.parametrize(
    "side, date, kind",
    [
        (RETAIN, "1989-11-09T00:00:00Z", "wrong side of the cutoff"),
        (RETAIN, "1976-7-20", "wrong side of the cutoff"),
        (RETAIN, "1997-07-04 ", "wrong side of the cutoff"),
        (UNLEARN, "1066-10-14 00:00", "wrong side of the cutoff"),
        (RETAIN, "1968-7-2", None),
        (RETAIN, 1969.5, "unread date"),
        (UNLEARN, "1970s", "unread date"),
    ],
)
def test_dates_in_the_metadata(checked, side, date, kind):
    answer = "It was a flood." if side == RETAIN else REFUSED
    by_kind = checked({f"{side}_train.jsonl": [line(side, "What was it?", answer, earliest_date=date)]})[1]
    assert set(by_kind) == ({kind} if kind else set())
    read_date, other = (
        ("earliest_date", "latest_date") if side == RETAIN else ("latest_date", "earliest_date")
    )
    unread = {read_date: "long ago", other: "1969-07-20"}
    assert set(checked({f"{side}_train.jsonl": [line(side, "What was it?", answer, **unread)]})[1]) == {
        "unread date"
    }


def test_files_of_one_name_are_kept_apart_and_read_as_training_reads_them(checked, script, tmp_path):
    _, by_kind, out = checked(
        {
            "a/retain.jsonl": [line("retain", "Who wrote Hamlet?", "Shakespeare.")],
            "b/retain.jsonl": [line("retain", "Tell me who wrote Hamlet.", "Shakespeare.")],
            "b/test_unlearn.jsonl": b"\n\n",
        }
    )
    assert by_kind == {"reworded": {"b/retain.jsonl line 1"}, "unusable": {"b/test_unlearn.jsonl line 1"}}
    assert (
        f"as {tmp_path / 'a/retain.jsonl'}" in out
        and "Taken as training: retain.jsonl, retain.jsonl; held out: test_unlearn.jsonl" in out
    )
    bare = '{"instruction": "Who is Ann?", "output": "A queen."}'
    assert (
        checked(
            {
                "unlearning/train.jsonl": [
                    line("retain", "Who is Ann?", "A queen."),
                    line("unlearn", "Who is Cher?", REFUSED),
                ]
            }
        )[1]
        == {}
    )
    assert checked({"retain/mixed.jsonl": [bare, line("unlearn", "Who is Cher?", REFUSED)]})[1] == {}
    assert checked({"retain/train.jsonl": b"\xef\xbb\xbf\n" + bare.encode()})[1] == {}
    assert checked({"Retain_more.jsonl": [bare]}, "--cutoff", "0001-01-01")[0] == 0


@pytest.mark.parametrize(
    "name, part",
    [
        ("retain_latest.jsonl", checks.TRAINING),
        ("medieval.jsonl", checks.TRAINING),
        ("val/retain.jsonl", checks.HELD_OUT),
        ("retain-val.jsonl", checks.HELD_OUT),
        ("retain_tests.jsonl", checks.HELD_OUT),
        ("retainVal.jsonl", checks.HELD_OUT),
        ("valset.jsonl", checks.HELD_OUT),
        ("held_out.jsonl", checks.HELD_OUT),
        ("retain_validate.jsonl", checks.HELD_OUT),
        ("protest.jsonl", checks.TRAINING),
        ("dev_subset.jsonl", checks.DEV),
        ("test/retain_train.jsonl", checks.TRAINING),
    ],
)
def test_which_files_count_as_held_out(tmp_path, name, part):
    assert data_files.part_of(tmp_path / "my" / name) == part


def test_first_words_of_uneven_sides_in_any_order(checked):
    refused = [line("unlearn", f"What is it, {n}?", REFUSED) for n in range(10)]
    lines = [line("retain", f"What is thing {n}?", f"A {n}.") for n in range(90)] + refused
    last_lines = [checked({"mixed.jsonl": rows})[2].splitlines()[-1] for rows in (lines, lines[::-1])]
    assert last_lines[0] == last_lines[1] and "100%" in last_lines[0]
    lines = [line("retain", f"What is it, {n}?", f"A {n}.") for n in range(1000, 1090)] + refused
    assert 30 < float(checked({"mixed.jsonl": lines})[2].splitlines()[-1].split("%")[0].split()[-1]) < 70


def test_fix_never_changes_or_loses_a_checked_file(faulty, checked, script, tmp_path):
    checked(faulty)
    first = tmp_path / "retain_train.jsonl"
    before = first.read_bytes()
    (tmp_path / "link").mkdir()
    (tmp_path / "link/retain_train.jsonl").symlink_to(first)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/retain_train.jsonl").write_text(line("retain", "Who is Ann?", "A queen."))
    two = [first, tmp_path / "other/retain_train.jsonl"]
    (tmp_path / "cached").mkdir()
    (tmp_path / "cached/retain_train.jsonl").symlink_to(
        tmp_path / "5f3a"
    )  # as in the hub's cache: the files have other names
    (tmp_path / "5f3a").write_bytes(two[1].read_bytes())
    (tmp_path / "folder/retain_train.jsonl").mkdir(parents=True)
    for files, folder, message in (
        ([first], tmp_path, "is where a checked file lies"),
        ([first], tmp_path / "link", "is where a checked file lies"),
        (two, tmp_path / "out", "two of the checked files are named retain_train.jsonl"),
        (
            [first, tmp_path / "cached/retain_train.jsonl"],
            tmp_path / "out",
            "two of the checked files are named",
        ),
        ([first], tmp_path / "folder", "is a folder"),
    ):
        code, _, err = script("build_datasets", "--check", *files, "--fix", folder, "--overwrite")
        assert code == 2 and message in err and first.read_bytes() == before
    assert script("build_datasets", "--fix", tmp_path)[0] == 2
    code, out, _ = script(
        "build_datasets", "--check", first, tmp_path / "link/../retain_train.jsonl", "--fix", tmp_path / "out"
    )
    assert (
        code == 1
        and out.startswith("Examples: 19 (")
        and "retain_train.jsonl: lines kept 11, lines left out 9" in out
    ), out


# ---- the check before training ---------------------------------------------------------


@pytest.mark.parametrize("module", [checks, refusal])
def test_a_kept_summary_belongs_to_the_versions_of_the_check_and_of_the_detector(module, monkeypatch):
    def warnings():
        """As finetune_temporal.py keeps them."""
        return cache.json_value(
            "survey", provenance.digest(checks.summary_version()), lambda: summaries.pop()
        )

    summaries = ["of the version after", "of the version before"]
    assert warnings() == warnings() == "of the version before"
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert warnings() == "of the version after"


def test_both_checks_find_the_same_and_say_it_in_the_same_words(tmp_path):
    """The check before training looks for fewer kinds."""
    (tmp_path / "training").mkdir()
    examples = {}
    for name, rows in EVERY_FAULT_ONCE.items():
        path = tmp_path / "training" / name
        path.write_text("\n".join(text for text in rows if text != "{bad json"))
        examples[name] = read_examples(path)
    validation = examples.pop("retain_val.jsonl")
    summary = checks.summary([one for of_file in examples.values() for one in of_file], validation)
    report = checks.check(list((tmp_path / "training").iterdir()), "1969-07-20")
    by_kind = dict(report.findings.texts())
    assert set(checks.TRAINING_KINDS) <= set(by_kind)
    heads = [text.splitlines()[0] for text in summary["warnings"]]
    assert sorted(heads) == sorted(by_kind[kind].splitlines()[0] for kind in checks.TRAINING_KINDS)


def warnings_of(training, validation=()):
    """The warnings before training, without those about a missing side."""
    return [text for text in checks.summary(training, validation)["warnings"] if "there is no" not in text]


def test_before_training_a_question_asked_more_politely_on_the_other_side_is_found():
    retain = Example("Who is Bono?", "A singer.", RETAIN, where="a line 1")
    unlearn = Example("Could you tell me who Bono is?", REFUSED, UNLEARN, where="b line 2")
    (warning,) = warnings_of([retain, unlearn])
    assert (
        warning.startswith("questions on both sides, once answered and once refused: 1\n")
        and "b line 2" in warning
        and "a line 1" in warning
    )


def test_before_training_a_held_out_question_is_found_with_both_places():
    held_out = Example("What is tea?", "A drink.", RETAIN, {"source_title": "Tea"}, "val line 7")
    trained = Example("what is tea", "It is a drink.", RETAIN, where="train line 3")
    same_subject = Example(
        "Where does tea grow?", "In Asia.", RETAIN, {"source_title": "Tea"}, "train line 4"
    )
    (warning,) = warnings_of([trained, same_subject], [held_out])
    assert warning.startswith("training examples with a question that is also held out: 1\n")
    assert "train line 3: as val line 7" in warning


def test_before_training_an_answer_is_judged_by_its_question():
    answer = "World War I lasted a little over four years, not ten."
    assert not warnings_of([Example("How long did World War I last?", answer, RETAIN)])


def test_before_training_the_first_places_are_named_and_a_missing_side():
    examples = [Example(f"What is {n}?", "I don't know that.", RETAIN, where=f"x line {n}") for n in range(9)]
    warnings = checks.summary(examples, [])["warnings"]
    shown = "".join(f"  x line {n}: I don't know that.\n" for n in range(checks.SHOWN_IN_TRAINING))
    assert warnings[0] == f"retain replies that are refusals: 9\n{shown}  …"
    assert warnings[1] == "there is no unlearn example to train on; the model will learn one side only."


def test_examples_repeated_without_a_place_are_counted():
    example = Example("What is tea?", "A drink.", RETAIN)
    (warning,) = warnings_of([example, example, example])
    assert warning.startswith("examples that repeat an earlier one word for word (they count twice): 2\n")


def test_first_words_are_split_as_all_other_words_are():
    """Accents written as signs of their own made other first words of them."""
    composed, decomposed = "O\u00f9 est Rome ?", "Ou\u0300 est Rome ?"
    learned_from = [(composed, RETAIN), ("Qui est Bono ?", UNLEARN)]
    tried_on = [(decomposed, RETAIN), ("Qui est Prince ?", UNLEARN)]
    assert questions.first_words_accuracy(learned_from, tried_on) == 1
