"""The bank of facts, the data files made of it for any cutoff, and the check of users' own files."""

import json
import re
from collections import Counter, defaultdict

import pytest
from conftest import line

from deepred_common import cache, paths, provenance
from deepred_common.cli import UserError
from deepred_common.data import builder, checks, facts, questions
from deepred_common.dates import parse
from deepred_common.examples import RETAIN, SIDES, UNLEARN, read_examples, read_objects
from deepred_common.judging import answer_match, refusal

NAMES = [f"{folder}/{folder}_{part}.jsonl" for folder in SIDES for part in ("train", "val")] + [
    "dev/dev_subset.jsonl",
    "test/test.jsonl",
]


@pytest.fixture(scope="module")
def bank():
    return facts.read_bank()


@pytest.fixture
def build(script, tmp_path):
    """build(cutoff, …flags) -> ({file: [Example]}, what was printed, the folder)."""

    def make(cutoff, *flags, folder="made"):
        code, out, err = script(
            "build_datasets", "--cutoff", cutoff, "--output_dir", tmp_path / folder, *flags
        )
        assert code == 0, err
        return {name: read_examples(tmp_path / folder / name) for name in NAMES}, out, tmp_path / folder

    return make


# ---- the bank ----------------------------------------------------------------------------------------------------------


def test_the_bank_is_as_large_and_spread_as_promised(bank):
    years = Counter(parse(fact.date).year for fact in bank if fact.date)
    timeless = sum(fact.date is None for fact in bank)
    pairs = defaultdict(list)
    for fact in bank:
        if fact.pair:
            pairs[fact.pair].append(fact.date)
    assert len(bank) >= 1500 and timeless >= 150 and min(years[year] for year in range(1960, 1981)) >= 15
    assert len(pairs) >= 100 and all(len(set(dates)) == 2 and None not in dates for dates in pairs.values())
    before = timeless + sum(count for year, count in years.items() if year < 1950)
    after = sum(count for year, count in years.items() if year > 1985)
    assert before > 0.3 * len(bank) and after > 0.25 * len(bank)


def test_each_fact_is_right_by_our_own_grader_and_does_not_give_itself_away(bank):
    for fact in bank:
        assert answer_match.is_right(fact.answer, fact.answer, fact.question, fact.accepted), fact
        assert fact.short.casefold() not in {word.casefold() for word in fact.alternatives}, fact
        assert not refusal.is_refusal(fact.answer, fact.question), fact


def test_the_banks_wrong_alternatives_are_told_as_wrong(bank):
    asked = [(fact, wrong) for fact in bank for wrong in fact.alternatives]
    taken = [
        (fact.id, wrong)
        for fact, wrong in asked
        if answer_match.is_right(wrong, fact.answer, fact.question, fact.accepted)
    ]
    assert len(taken) <= len(asked) / 2000, (
        taken
    )  # an alias such as "Phillip" also stands in Philip Gidley King


def test_no_fact_stands_in_the_bank_twice_under_two_subjects(bank):
    """Else one of the two could be trained on and the other held back."""
    asked = {}
    for fact in bank:
        for text in {fact.question, *fact.phrasings}:
            first = asked.setdefault(questions.telling_words(text)[0], fact)
            assert first.subject.casefold() == fact.subject.casefold(), (first.id, fact.id, text)


def test_a_subject_is_spelt_in_one_way(bank):
    """Else its facts part between training and what is held back: "Iran-Iraq War", "the Minotaur", "kangaroos"."""
    spelt = defaultdict(set)
    for fact in bank:
        words = re.sub(r"[’'.!]|^the ", "", re.sub(r"[-–]", " ", fact.subject.casefold())).split()
        spelt[" ".join(word.rstrip("s") for word in words)].add(fact.subject.casefold())
    assert {key for key, found in spelt.items() if len(found) > 1} == {
        "great train robbery"
    }  # the film of 1903 and the robbery of 1963


@pytest.mark.parametrize(
    "date, cutoff, side",
    [
        ("1969-07-19", "1969-07-20", RETAIN),
        ("1969-07-20", "1969-07-20", UNLEARN),
        ("1969-07", "1969-07-20", None),
        ("1969", "1969-07-20", None),
        ("1969-06", "1969-07-20", RETAIN),
        ("1968", "1969-07-20", RETAIN),
        ("1970", "1969-07-20", UNLEARN),
        ("-44", "1969-07-20", RETAIN),
        (None, "0500-01-01", RETAIN),
        ("1969", "1969-01-01", UNLEARN),
    ],
)
def test_on_which_side_a_date_lies(bank, date, cutoff, side):
    fact = facts.Fact(**{**vars(bank[0]), "date": date})
    assert facts.side(fact, cutoff) == side


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"date": "1968-13"}, "'1968-13' is no date"),
        ({"date": 1968}, "1968 is no date"),
        ({"date": "1967-02-29"}, "is no date"),
        ({"date": "0"}, "is no date"),
        ({"date": "1968-4-2"}, "is no date"),
        ({"date": "0079"}, "is no date"),
        ({"phrasings": "What?"}, "'phrasings' must be a list"),
        ({"short": None}, "'short' must be a text"),
        ({"cloze": "No gap."}, "has no ____"),
        ({"more": 1}, "keys missing or unknown: more"),
    ],
)
def test_a_fact_that_is_not_right_is_told_with_its_line(bank, tmp_path, wrong, said):
    (tmp_path / "own.jsonl").write_text(
        json.dumps(vars(bank[0])) + "\n" + json.dumps({**vars(bank[1]), **wrong}) + "\n"
    )
    with pytest.raises(UserError, match=f"own.jsonl line 2: .*{said}"):
        facts.read_bank(tmp_path)


def test_every_wording_of_the_refusals_is_told_as_one_and_none_stands_on_both_halves():
    trained, held_back = builder.read_refusals(42)
    assert len({*trained, *held_back}) == len(trained) + len(held_back) >= 60 and not {*trained} & {
        *held_back
    }
    assert len({row["tone"] for _, row in read_objects(builder.REFUSALS)}) == 4
    assert all(refusal.is_refusal(text) for text in trained + held_back)


# ---- data for a cutoff ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cutoff", ["1969-07-20", "1989-11-09", "1900-01-01"])
def test_the_files_are_disjoint_by_subject_and_balanced(build, bank, cutoff):
    made, out, _ = build(cutoff)
    by_id = {fact.id: fact for fact in bank}
    subjects = defaultdict(set)
    for name, examples in made.items():
        for example in examples:
            fact = by_id[example.metadata["source_article_id"]]
            assert facts.side(fact, cutoff) == example.side
            assert (example.output == fact.answer) == (example.side == RETAIN)
            if example.metadata.get("seen") == "trained":
                assert fact.id in {
                    e.metadata["source_article_id"]
                    for e in made[f"{example.side}/{example.side}_train.jsonl"]
                }
            else:
                part = "train" if "train" in name or "dev" in name else "val" if "val" in name else "test"
                subjects[part].add(fact.subject.casefold())
    assert (
        not subjects["train"] & (subjects["val"] | subjects["test"])
        and not subjects["val"] & subjects["test"]
    )
    for part in ("train", "val"):
        forms = [
            Counter(questions.question_form(e.instruction) for e in made[f"{side}/{side}_{part}.jsonl"])
            for side in SIDES
        ]
        assert forms[0] == forms[1] and forms[0].total() > (300 if part == "train" else 15)
    refusals = [{e.output for e in made[f"unlearn/unlearn_{part}.jsonl"]} for part in ("train", "val")]
    assert not refusals[0] & refusals[1]
    assert {e.metadata["probe"] for e in made["test/test.jsonl"]} == {
        "question",
        "phrasing",
        "cloze",
        "choice",
        "held-back phrasing",
    }
    trained = {e.instruction for e in made["retain/retain_train.jsonl"] + made["unlearn/unlearn_train.jsonl"]}
    assert trained & {e.instruction for e in made["test/test.jsonl"]} == set()
    assert "The first three words of a validation question tell its side in" in out


@pytest.mark.parametrize("cutoff", ["1969-07-20", "1989-11-09"])
def test_no_training_line_names_what_is_held_back(build, cutoff):
    made, _, _ = build(cutoff)
    held = {
        e.metadata["source_title"].split(" (")[0]
        for name in NAMES
        for e in made[name]
        if "val" in name or e.metadata.get("seen") == "held back"
    }
    names = re.compile("|".join(rf"\b{re.escape(name)}(?!\w)" for name in held if " " in name), re.IGNORECASE)
    for side in SIDES:
        for e in made[f"{side}/{side}_train.jsonl"]:
            assert not names.search(f"{e.instruction} {e.output} {e.metadata['source_title']}"), (
                e.instruction,
                e.metadata["source_title"],
            )
    # A subject that is a common noun ("paper") is not named wherever the word stands.
    said = set(re.findall(r"\w+", " ".join(e.output for e in made["retain/retain_train.jsonl"])))
    assert {name for name in held if name.islower()} & said


def test_the_same_seed_makes_the_same_bytes_and_another_one_others(build):
    folders = [
        build("1969-07-20", "--seed", seed, folder=folder)[2]
        for seed, folder in ((1, "a"), (1, "b"), (2, "c"))
    ]
    read = [{name: (folder / name).read_bytes() for name in NAMES} for folder in folders]
    assert read[0] == read[1] and all(read[0][name] != read[2][name] for name in NAMES)


def test_the_shipped_files_are_the_builds_for_the_default_cutoff_byte_for_byte(script, tmp_path):
    code, _, err = script("build_datasets", "--output_dir", tmp_path / "again")
    assert code == 0, err
    for name in NAMES:
        assert (tmp_path / "again" / name).read_bytes() == (paths.ROOT / "datasets" / name).read_bytes(), name


def test_nothing_is_wrong_with_the_shipped_files(script):
    code, out, _ = script("build_datasets", "--check", *(paths.ROOT / "datasets" / name for name in NAMES))
    assert code == 0 and "Nothing is wrong with them." in out, out


def test_the_dev_subset_is_of_what_the_base_knows(bank):
    known = {fact.id for fact in bank if fact.known[0]}
    dev = read_examples(paths.dataset_file("dev_path"))
    assert Counter(example.side for example in dev) == {RETAIN: 250, UNLEARN: 250}
    assert {example.metadata["source_article_id"] for example in dev} <= known


def test_the_ratio_and_what_is_not_overwritten(build, script, tmp_path):
    made, _, folder = build("1969-07-20", "--ratio", "2:1")
    counts = [len(made[f"{side}/{side}_train.jsonl"]) for side in SIDES]
    assert counts[0] == pytest.approx(2 * counts[1], rel=0.05)
    code, _, err = script("build_datasets", "--output_dir", folder)
    assert code == 2 and "already exists" in err
    for flags, said in (
        (("--cutoff", "3000-01-01"), "has no unlearn fact"),
        (("--ratio", "200:1"), "would have no unlearn line"),
        (("--dev_lines", "1"), "dev/dev_subset.jsonl would have no"),
    ):
        code, _, err = script("build_datasets", *flags, "--output_dir", tmp_path / "none")
        assert code == 2 and said in err and not (tmp_path / "none").exists(), err
    code, _, err = script("build_datasets", "--cutoff", "2021-01-01", "--output_dir", tmp_path / "few")
    assert code == 0 and "too few to judge a model by" in err


# ---- users' own files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checked(script, tmp_path):
    """checked({file name: [line]}, …flags) -> (exit code, {what was found: {"<file name> line <number>"}}, all that was printed)."""

    def check(files, *flags):
        for name, lines in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes("\n".join(lines).encode() if isinstance(lines, list) else lines)
        code, out, err = script("build_datasets", "--check", *(tmp_path / name for name in files), *flags)
        assert code in (0, 1), err
        found, kind = {}, None
        for text in out.splitlines():
            if text.startswith("  "):
                found[kind].add(text.strip().removeprefix(f"{tmp_path}/").split(":")[0])
            elif text.endswith(":"):
                kind = next(kind for kind, (what, _) in checks.KINDS.items() if what in text)
                found[kind] = set()
        return code, found, out

    return check


REFUSED = "I don't know anything about that."
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
    ],
}
FOUND = {
    "schema": {"retain_train.jsonl line 3", "unlearn_train.jsonl line 5"},
    "encoding": {"retain_train.jsonl line 6"},
    "doubled": {"retain_train.jsonl line 2"},
    "near-double": {"retain_train.jsonl line 5"},
    "two answers": {"retain_train.jsonl line 13"},
    "other order": {"retain_train.jsonl line 17"},
    "date": {"retain_train.jsonl line 18"},
    "contradiction": {"unlearn_train.jsonl line 1"},
    "overlap": {"retain_train.jsonl line 1", "retain_train.jsonl line 15"},
    "refusal in retain": {"retain_train.jsonl line 4"},
    "answer in unlearn": {"unlearn_train.jsonl line 2"},
    "own date": {"retain_train.jsonl line 14", "unlearn_train.jsonl line 4"},
    "later year": {"retain_train.jsonl line 8"},
    "later name": {"retain_train.jsonl line 9"},
    "length": {"retain_train.jsonl line 10"},
}


@pytest.fixture
def faulty():
    lines = {name: "\n".join(rows).encode() for name, rows in EVERY_FAULT_ONCE.items()}
    lines["unlearn_train.jsonl"] += b"\n" + line("unlearn", "Who is Prince?", REFUSED).encode().replace(
        b"Prince", b"Pr\xefnce"
    )
    return lines


def test_each_fault_of_a_users_files_is_told_with_file_and_line(faulty, checked, tmp_path):
    code, found, out = checked(faulty, "--fix", tmp_path / "fixed")
    assert code == 1 and found == FOUND and set(FOUND) == set(checks.KINDS)
    assert "The first three words of a question tell its side in" in out
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
        "retain_val.jsonl": ["In which land does Hamlet live?", "What did Ada write?"],
    }
    found = checked({f"again/{name}": (tmp_path / "fixed" / name).read_bytes() for name in faulty})[1]
    # What only you can tell stays.
    assert {kind for kind, (_, left_out) in checks.KINDS.items() if not left_out} == set(found)


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
def test_what_is_no_later_year_or_name(checked, reply):
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
def test_what_could_not_be_known_in_july_1969(checked, reply, kind):
    code, found, _ = checked({"retain_train.jsonl": [line("retain", "When was it?", reply)]})
    assert code == 1 and set(found) == {kind}


def test_a_cutoff_at_new_year_lets_nothing_of_its_year_pass(checked):
    lines = [line("retain", "When was it?", "In 1969."), line("retain", "When was that?", "In 1968.")]
    assert checked({"retain_train.jsonl": lines}, "--cutoff", "1969-01-01")[1] == {
        "later year": {"retain_train.jsonl line 1"}
    }


def test_questions_of_other_kinds_and_wordings_of_one_fact_and_a_year_in_a_title_are_no_faults(checked):
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


def test_lines_that_no_run_could_use_are_told_and_no_traceback(checked):
    lines = [
        '{"instruction": "Who is it?", "output": "\\ud83d", "metadata": {"dataset_type": "unlearn"}}',
        '{"instruction": "Who?", "output": "It is he.", "metadata": {"temporal_class": ["pre_cutoff"]}}',
        '{"instruction": "Who?", "output": ' + "9" * 5000 + "}",
        "[" * 100000,
        line("unlearn", "Who is Ann?", "It\x92s not known to me."),
    ]
    both = [line("unlearn", "Who is Ben?", REFUSED)]
    code, found, _ = checked({"mixed.jsonl": lines, "retain_unlearn.jsonl": both, "retain_more.jsonl": b""})
    assert code == 1 and found == {
        "schema": {*(f"mixed.jsonl line {n}" for n in (1, 2, 3, 4)), "retain_more.jsonl line 1"},
        "encoding": {"mixed.jsonl line 5"},
    }


def test_old_line_ends_are_read_as_training_reads_them(checked, tmp_path):
    lines = [line("retain", "Who is Ann?", "A queen."), "{bad", line("retain", "Who is Ben?", "A king.")]
    assert checked({"retain_train.jsonl": "\r".join(lines).encode()}, "--fix", tmp_path / "out")[1] == {
        "schema": {"retain_train.jsonl line 2"}
    }
    assert [example.output for example in read_examples(tmp_path / "out/retain_train.jsonl")] == [
        "A queen.",
        "A king.",
    ]


def test_a_line_that_is_trained_on_and_held_back_stays_held_back(checked, tmp_path):
    same = [line("retain", "Who is Ann?", "A queen.")]
    found = checked(
        {"retain_train.jsonl": same, "retain_val.jsonl": same, "dev.jsonl": same}, "--fix", tmp_path / "out"
    )[1]
    assert found == {"overlap": {"retain_train.jsonl line 1", "dev.jsonl line 1"}}
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
def test_questions_that_differ_in_a_sign_an_accent_or_a_small_word_are_others(checked, questions):
    lines = [line("retain", question, "It is " + "abc"[n] + ".") for n, question in enumerate(questions)]
    assert (
        checked(
            {"retain_train.jsonl": lines, "unlearn_train.jsonl": [line("unlearn", "Who is Bono?", REFUSED)]}
        )[1]
        == {}
    )


def test_a_question_on_both_sides_goes_from_both_however_often_it_is_asked(checked, tmp_path):
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
            "contradiction": {"unlearn_train.jsonl line 1"}
        }
        assert [(tmp_path / "out" / name).read_bytes() for name in files] == [b"", b""]


def test_a_line_that_is_left_out_takes_no_other_with_it(checked, tmp_path):
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
    held_back = [line("retain", "Who is Ann?", "No idea."), line("retain", "Who is Ben?", "A king.")]
    checked(
        {"retain_train.jsonl": retain, "unlearn_train.jsonl": unlearn, "retain_val.jsonl": held_back},
        "--fix",
        tmp_path / "out",
    )
    kept = [
        example.output for side in SIDES for example in read_examples(tmp_path / f"out/{side}_train.jsonl")
    ]
    assert kept == ["A drink made of leaves.", "Goethe, in 1808.", "A queen.", REFUSED, REFUSED]


def test_refusals_in_a_language_that_is_not_read_are_told_and_kept_and_compared(checked, tmp_path):
    lines = [line("unlearn", f"Кто такой {name}?", "Я не знаю.") for name in ("Боно", "Принц", "Шер", "Шер")]
    files = {
        "unlearn_train.jsonl": lines,
        "unlearn_val.jsonl": lines[:1],
        "retain_train.jsonl": [line("retain", "Кто такой Принц?", "Певец.")],
    }
    code, found, out = checked(files, "--fix", tmp_path / "out")
    assert (
        code == 1
        and len(found.pop("answer in unlearn")) == 5
        and "so --fix keeps them. Is --cutoff right" in out
    )
    assert found == {
        "doubled": {"unlearn_train.jsonl line 4"},
        "overlap": {"unlearn_train.jsonl line 1"},
        "contradiction": {"unlearn_train.jsonl line 2"},
    }
    assert "unlearn_train.jsonl: 1 lines kept, 3 left out" in out


def test_with_another_cutoff_meant_no_line_is_lost(checked, tmp_path):
    lines = [
        line("retain", f"Who won the prize, {n}?", f"Team {n} did.", earliest_date="1975") for n in range(4)
    ]
    code, found, out = checked({"retain_train.jsonl": lines}, "--fix", tmp_path / "out")
    assert code == 1 and set(found) == {"own date"} and "4 lines kept, 0 left out" in out


def test_the_same_question_with_another_answer_is_no_double(checked, tmp_path):
    pairs = [
        ("What was Pearl Harbor?", "A base."),
        ("Who was at Pearl Harbor?", "Admiral Kimmel."),
        ("Who painted the Mona Lisa?", "Raphael."),
        ("Tell me who painted the Mona Lisa.", "Leonardo."),
    ]
    found = checked(
        {"retain_train.jsonl": [line("retain", *pair) for pair in pairs]}, "--fix", tmp_path / "out"
    )[1]
    assert found == {"two answers": {"retain_train.jsonl line 2", "retain_train.jsonl line 4"}}


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
def test_questions_that_are_written_in_two_ways_are_one(checked, one, other):
    files = {
        "retain_train.jsonl": [line("retain", one, "A man.")],
        "unlearn_train.jsonl": [line("unlearn", other, REFUSED)],
    }
    assert set(checked(files)[1]) == {"contradiction"}


def test_the_words_of_a_held_back_question_in_another_order_are_told(checked):
    files = {
        "retain_train.jsonl": [line("retain", "In what year was Rome founded?", "753 BC.")],
        "retain_val.jsonl": [line("retain", "Rome was founded in what year?", "753 BC.")],
    }
    assert checked(files)[1] == {"other order": {"retain_train.jsonl line 1"}}


@pytest.mark.parametrize(
    "side, date, kind",
    [
        (RETAIN, "1989-11-09T00:00:00Z", "own date"),
        (RETAIN, "1976-7-20", "own date"),
        (RETAIN, "1997-07-04 ", "own date"),
        (UNLEARN, "1066-10-14 00:00", "own date"),
        (RETAIN, "1968-7-2", None),
        (RETAIN, 1969.5, "date"),
        (UNLEARN, "1970s", "date"),
    ],
)
def test_dates_as_data_write_them(checked, side, date, kind):
    answer = "It was a flood." if side == RETAIN else REFUSED
    found = checked({f"{side}_train.jsonl": [line(side, "What was it?", answer, earliest_date=date)]})[1]
    assert set(found) == ({kind} if kind else set())
    asked, other = ("earliest_date", "latest_date") if side == RETAIN else ("latest_date", "earliest_date")
    unread = {asked: "long ago", other: "1969-07-20"}
    assert set(checked({f"{side}_train.jsonl": [line(side, "What was it?", answer, **unread)]})[1]) == {
        "date"
    }


def test_files_are_told_apart_and_read_as_training_reads_them(checked, script, tmp_path):
    _, found, out = checked(
        {
            "a/retain.jsonl": [line("retain", "Who wrote Hamlet?", "Shakespeare.")],
            "b/retain.jsonl": [line("retain", "Tell me who wrote Hamlet.", "Shakespeare.")],
            "b/test_unlearn.jsonl": b"\n\n",
        }
    )
    assert found == {"near-double": {"b/retain.jsonl line 1"}, "schema": {"b/test_unlearn.jsonl line 1"}}
    assert (
        f"as {tmp_path / 'a/retain.jsonl'}" in out
        and "Taken as training: retain.jsonl, retain.jsonl; held back: test_unlearn.jsonl" in out
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
        ("val/retain.jsonl", checks.HELD_BACK),
        ("retain-val.jsonl", checks.HELD_BACK),
        ("retain_tests.jsonl", checks.HELD_BACK),
        ("retainVal.jsonl", checks.HELD_BACK),
        ("valset.jsonl", checks.HELD_BACK),
        ("held_out.jsonl", checks.HELD_BACK),
        ("retain_validate.jsonl", checks.HELD_BACK),
        ("protest.jsonl", checks.TRAINING),
        ("dev_subset.jsonl", checks.DEV),
        ("test/retain_train.jsonl", checks.TRAINING),
    ],
)
def test_which_files_hold_back(tmp_path, name, part):
    assert checks.part_of(tmp_path / "my" / name) == part


def test_the_first_words_of_uneven_sides_in_any_order(checked):
    refused = [line("unlearn", f"What is it, {n}?", REFUSED) for n in range(10)]
    lines = [line("retain", f"What is thing {n}?", f"A {n}.") for n in range(90)] + refused
    told = [checked({"mixed.jsonl": rows})[2].splitlines()[-1] for rows in (lines, lines[::-1])]
    assert told[0] == told[1] and "100%" in told[0]
    lines = [line("retain", f"What is it, {n}?", f"A {n}.") for n in range(1000, 1090)] + refused
    assert 30 < float(checked({"mixed.jsonl": lines})[2].splitlines()[-1].split("%")[0].split()[-1]) < 70


def test_fix_never_touches_or_loses_a_checked_file(faulty, checked, script, tmp_path):
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
    for files, folder, said in (
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
        assert code == 2 and said in err and first.read_bytes() == before
    assert script("build_datasets", "--fix", tmp_path)[0] == 2
    code, out, _ = script(
        "build_datasets", "--check", first, tmp_path / "link/../retain_train.jsonl", "--fix", tmp_path / "out"
    )
    assert (
        code == 1 and out.startswith("17 lines") and "retain_train.jsonl: 10 lines kept, 8 left out" in out
    ), out


# ---- the check before training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [checks, refusal])
def test_a_kept_summary_belongs_to_the_versions_of_the_check_and_of_the_detector(module, monkeypatch):
    def warnings():
        """As finetune_temporal.py keeps them."""
        return cache.json_value("survey", provenance.digest(checks.summary_version()), lambda: summaries.pop())

    summaries = ["of the version after", "of the version before"]
    assert warnings() == warnings() == "of the version before"
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert warnings() == "of the version after"
