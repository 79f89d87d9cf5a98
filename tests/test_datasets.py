"""The bank of facts, the data files made of it for any cutoff, and the check of users' own files."""

import json
from collections import Counter, defaultdict

import pytest
from conftest import line

from deepred_common import corpus, facts, grading, lint, metrics, paths, records, refusal
from deepred_common.records import RETAIN, SIDES, UNLEARN

NAMES = [f"{folder}/{folder}_{part}.jsonl" for folder in SIDES for part in ("train", "val")] + ["dev/dev_subset.jsonl", "test/test.jsonl"]


@pytest.fixture(scope="module")
def bank():
    return facts.read_bank()


@pytest.fixture
def build(script, tmp_path):
    """build(cutoff, …flags) -> ({file: [Example]}, what was printed, the folder)."""
    def make(cutoff, *flags, folder="made"):
        code, out, err = script("build_datasets", "--cutoff", cutoff, "--output_dir", tmp_path / folder, *flags)
        assert code == 0, err
        return {name: records.read_examples(tmp_path / folder / name) for name in NAMES}, out, tmp_path / folder

    return make


# ---- the bank ----------------------------------------------------------------------------------------------------------

def test_the_bank_is_as_large_and_spread_as_promised(bank):
    years = Counter(int(facts.span(fact.date)[0][0]) for fact in bank if fact.date)
    timeless = sum(fact.date is None for fact in bank)
    pairs = Counter(fact.pair for fact in bank if fact.pair)
    assert len(bank) >= 1500 and timeless >= 150
    assert set(pairs.values()) == {2}
    before = timeless + sum(count for year, count in years.items() if year < 1950)
    after = sum(count for year, count in years.items() if year > 1985)
    assert before > 0.3 * len(bank) and after > 0.25 * len(bank)


def test_each_fact_is_right_by_our_own_grader_and_does_not_give_itself_away(bank):
    for fact in bank:
        assert grading.is_right(fact.answer, fact.answer, fact.question, fact.accepted), fact
        assert fact.short.casefold() not in {word.casefold() for word in fact.alternatives}, fact
        assert not refusal.is_refusal(fact.answer, fact.question), fact


def test_the_banks_wrong_alternatives_are_told_as_wrong(bank):
    asked = [(fact, wrong) for fact in bank for wrong in fact.alternatives]
    taken = [(fact.id, wrong) for fact, wrong in asked if grading.is_right(wrong, fact.answer, fact.question, fact.accepted)]
    assert len(taken) <= len(asked) / 2000, taken  # an alias such as "Phillip" also stands in Philip Gidley King


def test_no_fact_stands_in_the_bank_twice_under_two_subjects(bank):
    """Else one of the two could be trained on and the other held back."""
    asked = {}
    for fact in bank:
        for text in {fact.question, *fact.phrasings}:
            first = asked.setdefault(lint.telling_words(text), fact)
            assert first.subject.casefold() == fact.subject.casefold(), (first.id, fact.id, text)


@pytest.mark.parametrize("date, cutoff, side", [
    ("1969-07-19", "1969-07-20", RETAIN), ("1969-07-20", "1969-07-20", UNLEARN), ("1969-07", "1969-07-20", None), ("1969", "1969-07-20", None),
    ("1969-06", "1969-07-20", RETAIN), ("1968", "1969-07-20", RETAIN), ("1970", "1969-07-20", UNLEARN), ("-44", "1969-07-20", RETAIN),
    (None, "0500-01-01", RETAIN), ("1969", "1969-01-01", UNLEARN),
])
def test_on_which_side_a_date_lies(bank, date, cutoff, side):
    fact = facts.Fact(**{**vars(bank[0]), "date": date})
    assert facts.side(fact, cutoff) == side


def test_every_wording_of_the_refusals_is_told_as_one_and_none_stands_on_both_halves():
    trained, held_back = corpus.read_refusals(42)
    assert len({*trained, *held_back}) == len(trained) + len(held_back) >= 60 and not {*trained} & {*held_back}
    assert len({row["tone"] for _, row in records.read_objects(corpus.REFUSALS)}) == 4
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
            if example.metadata.get("seen") != "trained":
                part = "train" if "train" in name or "dev" in name else "val" if "val" in name else "test"
                subjects[part].add(fact.subject.casefold())
    assert not subjects["train"] & (subjects["val"] | subjects["test"]) and not subjects["val"] & subjects["test"]
    for part in ("train", "val"):
        forms = [Counter(metrics.question_form(e.instruction) for e in made[f"{side}/{side}_{part}.jsonl"]) for side in SIDES]
        assert forms[0] == forms[1] and forms[0].total() > (300 if part == "train" else 15)
    refusals = [{e.output for e in made[f"unlearn/unlearn_{part}.jsonl"]} for part in ("train", "val")]
    assert not refusals[0] & refusals[1]
    assert {e.metadata["probe"] for e in made["test/test.jsonl"]} == {"question", "phrasing", "cloze", "choice", "held-back phrasing"}
    trained = {e.instruction for e in made["retain/retain_train.jsonl"] + made["unlearn/unlearn_train.jsonl"]}
    assert trained & {e.instruction for e in made["test/test.jsonl"]} == set()
    assert "The first three words of a validation question tell its side in" in out


def test_the_same_seed_makes_the_same_bytes_and_another_one_others(build):
    folders = [build("1969-07-20", "--seed", seed, folder=folder)[2] for seed, folder in ((1, "a"), (1, "b"), (2, "c"))]
    read = [{name: (folder / name).read_bytes() for name in NAMES} for folder in folders]
    assert read[0] == read[1] and all(read[0][name] != read[2][name] for name in NAMES)


def test_the_shipped_files_are_the_builds_for_the_default_cutoff_byte_for_byte(script, tmp_path):
    code, _, err = script("build_datasets", "--output_dir", tmp_path / "again")
    assert code == 0, err
    for name in NAMES:
        assert (tmp_path / "again" / name).read_bytes() == (paths.ROOT / "datasets" / name).read_bytes(), name


def test_nothing_is_wrong_with_the_shipped_files_but_two_questions_that_only_look_alike(script):
    shipped = [paths.ROOT / "datasets" / side / f"{side}_{part}.jsonl" for side in SIDES for part in ("train", "val")]
    _, out, _ = script("build_datasets", "--check", *shipped)
    findings = [text for text in out.splitlines() if text.endswith(":")]
    assert findings == ["1 questions asked before in nearly the same words:"], out  # when, and where, a man was killed


def test_the_dev_subset_is_of_what_the_base_knows(bank):
    known = {fact.id for fact in bank if fact.known[0]}
    dev = records.read_examples(paths.dataset_file("dev_path"))
    assert Counter(example.side for example in dev) == {RETAIN: 250, UNLEARN: 250}
    assert {example.metadata["source_article_id"] for example in dev} <= known


def test_the_ratio_and_what_is_not_overwritten(build, script, tmp_path):
    made, _, folder = build("1969-07-20", "--ratio", "2:1")
    counts = [len(made[f"{side}/{side}_train.jsonl"]) for side in SIDES]
    assert counts[0] == pytest.approx(2 * counts[1], rel=0.05)
    code, _, err = script("build_datasets", "--output_dir", folder)
    assert code == 2 and "already exists" in err
    code, _, err = script("build_datasets", "--cutoff", "3000-01-01", "--output_dir", tmp_path / "none")
    assert code == 2 and "has no unlearn fact" in err


# ---- users' own files ------------------------------------------------------------------------------------------------------

@pytest.fixture
def own(tmp_path):
    """Files of a user's own with every fault once."""
    refused = "I don't know anything about that."
    train = [line("retain", "Who wrote Hamlet?", "Shakespeare.", source_title="Hamlet"),
             line("retain", "Who wrote Hamlet?", "Shakespeare."), "{bad json", line("retain", "What is tea?", "I don't know that."),
             line("retain", "Could you tell me who wrote Hamlet, please?", "William Shakespeare."),
             line("retain", "Who sings?", "Edith Piaf does, in CafÃ© Paris."), line("retain", "Where is Rome?", "In Italy."),
             line("retain", "When was the bridge built?", "In 1987."), line("retain", "What was on the moon?", "It was about Barack Obama."),
             line("retain", "What is a stone?", "A stone is " + "very " * 60 + "hard."), line("retain", "What is iron?", "Iron is a metal.")]
    unlearn = [line("unlearn", "Where is Rome?", refused), line("unlearn", "Who is Bono?", "A singer."),
               line("unlearn", "Who is Madonna?", refused)]
    held = [line("retain", "In which land does Hamlet live?", "In Denmark.", source_title="Hamlet")]
    for name, lines in (("retain_train", train), ("unlearn_train", unlearn), ("retain_val", held)):
        (tmp_path / f"{name}.jsonl").write_bytes("\n".join(lines).encode())
    with (tmp_path / "unlearn_train.jsonl").open("ab") as file:
        file.write(b"\n" + line("unlearn", "Who is Prince?", refused).encode().replace(b"Prince", b"Pr\xefnce"))
    return [tmp_path / f"{name}.jsonl" for name in ("retain_train", "unlearn_train", "retain_val")]


def test_wordings_of_one_fact_and_a_year_in_a_title_are_no_faults(script, tmp_path):
    lines = [line("retain", "What is iron?", "Iron is a metal.", source_article_id="iron"),
             line("retain", "Tell me what iron is.", "Iron is a metal.", source_article_id="iron"),
             line("retain", "Who made 2001: A Space Odyssey?", "Stanley Kubrick made 2001.", source_title="2001: A Space Odyssey")]
    (tmp_path / "retain_train.jsonl").write_text("\n".join(lines))
    code, out, _ = script("build_datasets", "--check", tmp_path / "retain_train.jsonl")
    assert code == 0 and "Nothing is wrong with them." in out


def test_each_fault_of_a_users_files_is_told_with_file_and_line(own, script, tmp_path):
    code, out, err = script("build_datasets", "--check", *own, "--fix", tmp_path / "fixed")
    assert code == 1, err
    for said, file, number in (
        ("2 lines that cannot be used", "retain", 3), ("cannot be used", "unlearn", "4: not UTF-8"),
        ("1 lines with broken characters", "retain", 6), ("1 lines that repeat", "retain", 2),
        ("1 questions asked before in nearly", "retain", 5), ("1 questions that stand on both", "unlearn", 1),
        ("held back as well", "retain", 1), ("1 retain replies that are refusals", "retain", 4),
        ("1 unlearn replies that are answers", "unlearn", 2),
        ("1 retain lines that name a year", "retain", 8), ("1 replies more than", "retain", 10), ("known only after the cutoff", "retain", 9),
    ):
        place = f"{file}_train.jsonl line {number}"
        assert said in out, (said, out)
        assert place in out[out.index(said):out.index(said) + 600], (said, out)
    assert "The first three words of a question tell its side in" in out
    left = {name: [json.loads(text)["instruction"] for text in (tmp_path / "fixed" / name).read_text().splitlines()]
            for name in ("retain_train.jsonl", "unlearn_train.jsonl")}
    assert left == {"retain_train.jsonl": ["What is a stone?", "What is iron?"], "unlearn_train.jsonl": ["Who is Madonna?"]}
    code, out, _ = script("build_datasets", "--check", tmp_path / "fixed/retain_train.jsonl", tmp_path / "fixed/unlearn_train.jsonl")
    assert code == 0 and "Nothing is wrong with them." in out


def test_fixing_in_place_is_refused(own, script):
    before = own[0].read_bytes()
    code, _, err = script("build_datasets", "--check", own[0], "--fix", own[0].parent)
    assert code == 2 and "is where a checked file lies" in err and own[0].read_bytes() == before
    assert script("build_datasets", "--fix", own[0].parent)[0] == 2
