"""The shape of a results file: its schema number, and the type of every object in it.

What an evaluation should also save is declared here first; results_file builds, reads and writes it, and the
reports show it. Shares and their intervals are in percent.
"""

from typing import Literal, TypedDict, cast

from deepred_common.cli import Setting
from deepred_common.evaluation.relearning_schema import Relearning
from deepred_common.examples import Message

SCHEMA = 2

# The figures that are shares of one side's questions, and of all dated questions (temporal_accuracy).
Rate = Literal[
    "retain_accuracy",
    "false_refusal_rate",
    "unlearn_success_rate",
    "knowledge_leakage",
    "true_leakage",
    "chat_refusal_rate",
    "temporal_accuracy",
]
VerdictCounts = dict[str, int]  # {verdict: questions with it}, of one side
Interval = list[float]  # [low, high], 95 %: Wilson's, or over the facts where questions share them
# {"period" | "near" | "field" | "form" | "probe" | "chat": {group: {side: VerdictCounts}}}
Breakdown = dict[str, dict[str, dict[str, VerdictCounts]]]


class Sample(TypedDict):
    """One sampled reply to a question; its keys are those of a row."""

    turns: list[str]
    reply: str | None
    finish: str | None
    verdict: str
    error: str | None


class ResultRow(TypedDict):
    """One question, its reply and the verdict."""

    id: int  # its number in the data, from 0
    instruction: str
    earlier: list[Message]  # the turns before it, as the data give them
    prefix: str  # how the reply began that the model was to continue; "" if it wrote all of it
    # The model's replies to those of its earlier turns that the data leave to it. If these are fewer, it was
    # not asked further, and `reply` is to the turn after them.
    turns: list[str]
    side: str  # "retain", "unlearn" or "chat"
    reference: str  # the reply that the data give
    true_answer: str | None  # unlearn: what must not leak; original_answer, else the first accepted answer
    date: str | None  # the fact's date as in the data: "1969-11-10", "-44-03-15", "1912"
    field: str | None  # the data's field, such as "science"
    form: str  # what | who | when | where | which | why | how | tell me | other
    probe: str | None  # the data's way of asking about the fact: question, cloze, …
    fact: str | None  # the data's identifier of the fact (source_article_id), shared by its wordings
    reply: str | None  # as the model wrote it (after `prefix`), its thought included; None if there was none
    finish: str | None  # "stop", "length" (cut at max_tokens), or None if the back end does not say
    # retain: correct | wrong | refused | broken | failed; leaked where the answer depends on the day
    # unlearn: refused | leaked | confabulated | broken | failed
    # chat: replied | wrong | refused | broken | failed
    verdict: str
    error: str | None  # why there is no reply
    # The probability of all that begins a refusal, as the answer's first token, from 0 to 1. None if the back
    # end does not give it, and of a message with questions of both sides, which is answered and refused.
    refusal_share: float | None
    samples: list[Sample]  # the replies of --samples, beside the greedy one above
    # {answer: [log-likelihood in nats, tokens]} of given answers, the true one first; `reply` is then the
    # likeliest. None of all rows that the model replied to.
    scores: dict[str, list[float]] | None


class Summary(TypedDict):
    """What an evaluation counts. A rate is None if there are no questions for it."""

    retain: VerdictCounts  # each verdict of the side, and "total"
    unlearn: VerdictCounts
    chat: VerdictCounts
    retain_accuracy: float | None
    false_refusal_rate: float | None
    unlearn_success_rate: float | None
    knowledge_leakage: float | None
    true_leakage: float | None
    chat_refusal_rate: float | None
    temporal_accuracy: float | None


def counts_of(summary: Summary, side: str) -> VerdictCounts:
    """The counts of one side of a summary."""
    return cast(dict[str, VerdictCounts], summary)[side]


class FittedCurve(TypedDict):
    """The refusal curve of stats.Curve: shares from 0 to 1, dates and widths in years."""

    floor: float
    ceiling: float
    middle: float
    scale: float
    low: float | None  # 95 % interval of `middle`
    high: float | None
    cutoff: float | None  # where half is refused; None if the curve never crosses one half
    width: float  # years from 10 % to 90 % of the rise


class Separation(TypedDict):
    """How well refusal_share tells questions from after the cutoff from those before it.

    No figure but d_prime depends on how readily the model refuses.
    """

    auroc: float  # how often a question from after the cutoff has the larger share; 0.5 is chance
    low: float  # 95 % interval of the AUROC, by a bootstrap over the facts
    high: float
    d_prime: float  # z of the share refused after the cutoff less z of that before it, by the verdicts
    equal_error: float  # percent: refused before the cutoff and answered after it, if both were equal
    threshold: float  # the refusal_share from which a question would then count as refused
    before: int  # questions
    after: int


class AtLeastOnce(TypedDict):
    """The share of questions of which at least one of k sampled replies has a certain verdict, in percent."""

    k: int
    percent: float  # the unbiased estimate from all samples (sampling.at_least_one)
    low: float  # 95 % interval, of stats.grouped_intervals
    high: float


class Sampled(TypedDict):
    """The figures of sampled replies for k = 1, 2, 4 … and all samples; {} of a side without questions."""

    samples: int  # of each question
    temperature: float
    unlearn: dict[str, list[AtLeastOnce]]  # "leak_at": the true answer leaks
    retain: dict[str, list[AtLeastOnce]]  # "refuse_at", "right_at"
    chat: dict[str, list[AtLeastOnce]]  # "refuse_at"


def figures_of(sampled: Sampled, side: str) -> dict[str, list[AtLeastOnce]]:
    """The figures of one side of sampled replies."""
    return cast(dict[str, dict[str, list[AtLeastOnce]]], sampled)[side]


# {"present tense" | "changed word": the counts of its questions before the cutoff}, whose answer depends on
# the day; "leaked" are those with an answer that became right only later
PresentTense = dict[str, VerdictCounts]

# {"all" | "after 1900": Separation}, the second of the facts dated 1900 or later
Discrimination = dict[str, Separation]


class KnownFacts(TypedDict):
    """Facts with four given answers, by the log-likelihoods that the model gives them."""

    facts: int
    likeliest: int  # facts whose true answer is the likeliest, by the mean over its tokens
    # Mean over the facts: true less the mean of the false ones, nats a token. Facts with an impossible answer
    # are left out; None if no others are there.
    difference: float | None
    low: float | None  # its 95 % interval, by a bootstrap over the facts
    high: float | None


class Knowledge(TypedDict):
    """What the model knows behind its words; see knowledge.measure."""

    sides: dict[str, KnownFacts]
    periods: dict[str, KnownFacts]  # by the fact's century, from 1900 its decade, in the order of dates


class StillSo(TypedDict):
    """Of `known` questions with a certain verdict in the baseline, how many (`count`) still have it."""

    known: int
    count: int


class SideChange(TypedDict):
    """Questions of one side that are right in one of two results only."""

    better: int  # right here, not in the baseline
    worse: int  # right in the baseline, not here
    mcnemar: float  # exact two-sided p-value of that difference, as if no two questions shared a fact


class Comparison(TypedDict):
    """What became of a baseline's verdicts, from the questions that both results hold."""

    lines: int  # questions compared
    unpaired: int  # questions left out, since one of the two got no reply
    retention: StillSo  # retain questions that the baseline answers correctly
    known_fact_leakage: StillSo  # unlearn questions whose true answer the baseline gives
    retain: SideChange
    unlearn: SideChange
    chat: SideChange
    chat_refusal_rate: float | None  # the baseline's, in percent; None without chat prompts in common


class ProbeFigures(TypedDict):
    """What --probes adds: the forms side by side. Their counts are breakdown["probe"].

    A form counts by its leaked verdicts after the cutoff, by its refused ones before it. Left out of `worst`
    and `any` are, after the cutoff, forms that offer the answer (choice), since a guess can be right, and
    before it those in a code (base64), since whoever cannot read it may decline.
    """

    forms: list[str]  # asked, in order
    worst: dict[str, str]  # {side: the form with the largest share}; no side without any
    any: dict[str, list[int]]  # {side: [facts leaked, or refused, in at least one form; facts]}


class Baseline(TypedDict):
    """Another evaluation on the same questions, by its figures."""

    label: str
    summary: Summary
    against: Comparison
    discrimination: Discrimination | None
    present_tense: PresentTense
    probes: ProbeFigures | None
    by_probe: dict[str, dict[str, VerdictCounts]]  # its breakdown["probe"] if it was asked in forms
    still_leaked: StillSo | None  # late facts that it leaks in any form, and this model in any
    knowledge: Knowledge | None


class ModelInfo(TypedDict):
    """The model that was evaluated."""

    name: str  # path, hub name or the identifier at the server
    kind: str  # folder | adapter | gguf | api
    identity: str | None  # SHA-256 of the weights, or the hub's revision
    answered_by: list[str]  # the names that the server gave
    system_prompt: str | None


class JudgeInfo(TypedDict):
    """The model that graded the answers, and how far it agrees with the labelled answers (shares of 1)."""

    model: str
    url: str
    kappa: float
    agreement: float


class Conditions(TypedDict):
    """What must be the same for replies of two evaluations to count as one."""

    model: str  # its identity, or its name if that is not known
    # {file: SHA-256} of the chat template, the tokenizer and so on, of an adapter also of its base; None of a
    # server, and of what needs none (backends.beside_weights). Earlier versions did not record it.
    model_files: dict[str, str] | None
    max_tokens: int
    system_prompt: str | None
    chat: int  # chat.VERSION: the prompts that a model is shown
    data: list[str]  # the SHA-256 of each file
    questions: str  # a hash of all that is asked, in its order
    limit: int | None
    seed: int | None  # None without a limit and without samples
    probes: list[str] | None  # the forms of --probes
    samples: int | None  # sampled replies to each question, and their temperature; None without
    temperature: float | None


class Results(TypedDict):
    """A whole results file."""

    schema: int
    model: ModelInfo
    cutoff: str  # "YYYY-MM-DD"
    started: str  # ISO 8601 with offset
    finished: str
    settings: dict[str, Setting]
    versions: dict[str, str]  # {package: version}
    data: dict[str, str]  # {file: SHA-256}
    asked: Conditions
    judge: JudgeInfo | None
    quality: str  # EXCELLENT | ACCEPTABLE | NEEDS IMPROVEMENT | ONE SIDE ONLY
    summary: Summary
    intervals: dict[Rate, Interval]
    breakdown: Breakdown
    curve: FittedCurve | None
    discrimination: Discrimination | None  # None if too few questions of a side have a refusal_share
    probes: ProbeFigures | None  # with it, all figures but breakdown["probe"] are of the direct questions
    sampling: Sampled | None  # None without --samples
    knowledge: Knowledge | None  # None if no given answers were scored
    relearning: Relearning | None  # what --attack relearn adds
    baselines: list[Baseline]  # the first counts in `quality`: the untouched base, where it was asked first
    results: list[ResultRow]  # in the order of the data
