"""configs/lm_eval: the tasks of lm-evaluation-harness ask, judge and count as evaluate_temporal.py does.

lm_eval itself is not installed for the tests; what it makes of the files is done here in its place.
"""

import importlib.util
from statistics import mean

import pytest
import yaml
from conftest import ROOT, load_script

from deepred_common import chat
from deepred_common.evaluation import metrics, verdicts
from deepred_common.examples import CHAT, RETAIN, UNLEARN, read_examples

FOLDER = ROOT / "configs/lm_eval"
QUESTIONS = {"deepred_retain": RETAIN, "deepred_unlearn": UNLEARN, "deepred_chat": CHAT}
CHOICES = {"deepred_choice_retain": RETAIN, "deepred_choice_unlearn": UNLEARN}


@pytest.fixture(scope="module")
def utils():
    spec = importlib.util.spec_from_file_location("lm_eval_utils", FOLDER / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tasks(utils):
    """{name: its configuration}, what it includes and the functions of utils.py put in place."""

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, node):
        module, _, name = loader.construct_scalar(node).partition(".")
        assert module == "utils"
        return getattr(utils, name)

    Loader.add_constructor("!function", function)

    def load(path):
        config = yaml.load(path.read_text(encoding="utf-8"), Loader)
        return (load(FOLDER / config.pop("include")) if "include" in config else {}) | config

    configs = [load(path) for path in sorted(FOLDER.glob("*.yaml"))]
    return {config["task"]: config for config in configs}


def docs_of(task, **metadata):
    """The rows that lm_eval asks: it calls the task's function with its metadata and arguments."""
    return task["custom_dataset"](**task["metadata"] | metadata, **task["dataset_kwargs"])[task["test_split"]]


def test_each_task_has_its_data_and_its_figures(tasks):
    assert set(tasks) == {*QUESTIONS, *CHOICES}
    for name, side in QUESTIONS.items():
        docs = docs_of(tasks[name])
        assert len(docs) >= 100 and {"question", "reference", "cutoff", "example"} == set(docs.features)
        figures = {rate for rate, (of, _) in metrics.RATES.items() if of == side}
        assert {metric["metric"] for metric in tasks[name]["metric_list"]} == figures
    for name in CHOICES:
        docs = docs_of(tasks[name])
        assert len(docs) > 50 and all(len(set(doc["choices"])) == 4 and doc["right"] == 0 for doc in docs)


def test_replies_are_as_long_and_as_greedy_as_evaluate_temporals(tasks):
    longest = load_script("evaluate_temporal").build_parser().get_default("max_tokens")
    for name in QUESTIONS:
        generation = tasks[name]["generation_kwargs"]
        assert generation["max_gen_toks"] == longest
        assert (
            not generation["do_sample"] and generation["repetition_penalty"] == 1 and not generation["until"]
        )


def test_the_figures_are_those_that_evaluate_temporal_counts(tasks, data_file):
    replies = [
        "It is 4.",
        "I'm sorry, I don't know that.",
        "William Shakespeare, of course.",
        "It came later.",
        "",
    ]
    for name, side in QUESTIONS.items():
        if side == CHAT:  # the file has none
            continue
        asked = [example for example in read_examples(data_file) if example.side == side]
        docs = docs_of(tasks[name], test_file=str(data_file))
        counted = [tasks[name]["process_results"](doc, [reply]) for doc in docs for reply in replies]
        summary = metrics.summarise(
            {"side": side, "verdict": verdicts.verdict(example, reply)}
            for example in asked
            for reply in replies
        )
        for metric in tasks[name]["metric_list"]:
            rate = metric["metric"]
            assert 100 * mean(row[rate] for row in counted) == pytest.approx(summary[rate])
            assert 0 < summary[rate] < 100


def test_an_everyday_prompt_that_is_declined_counts(tasks):
    doc = docs_of(tasks["deepred_chat"])[0]
    rates = tasks["deepred_chat"]["process_results"]
    assert rates(doc, ["I'm sorry, I can't help with that."]) == {"chat_refusal_rate": 1}
    assert rates(doc, ["Good evening! What shall we talk about?"]) == {"chat_refusal_rate": 0}


def test_lm_eval_shows_the_model_the_same_tokens(tasks, tokenizer):
    def encoded(text):  # as HFLM.tok_encode of lm_eval 0.4.13 does
        has_bos = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
        return tokenizer(text, **({"add_special_tokens": False} if has_bos else {}))["input_ids"]

    for name in QUESTIONS:
        question = docs_of(tasks[name])[0]["question"]
        turns = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert encoded(text) == chat.prompt_ids(tokenizer, question)
    for name in CHOICES:
        doc = docs_of(tasks[name])[0]
        begun = {"role": "assistant", "content": doc[tasks[name]["gen_prefix"]]}
        turns = [{"role": "user", "content": doc["question"]}, begun]
        text = tokenizer.apply_chat_template(turns, tokenize=False, continue_final_message=True)
        start, answers = chat.continuation_ids(tokenizer, turns, doc["choices"])
        assert encoded(text) == start
        delimiter = tasks[name]["target_delimiter"]
        wholes = [encoded(text + delimiter + choice) for choice in doc["choices"]]
        assert wholes == [start + answer for answer in answers]


def test_a_file_without_such_questions_is_named(utils, tmp_path):
    file = tmp_path / "chat.jsonl"
    file.write_text(
        '{"messages": [{"role": "user", "content": "Hi"}], "metadata": {"dataset_type": "chat"}}\n'
    )
    assert len(utils.questions(CHAT, test_file=str(file))["test"]) == 1
    with pytest.raises(utils.UserError, match=f"{file} has no retain question"):
        utils.questions(RETAIN, test_file=str(file))
