"""A model as judge: any OpenAI-compatible server grades answers against their references.

First it grades labelled answers (datasets/labelled/grades.jsonl), and its agreement with them is printed:
those of the half that is held out, since the matcher, with which it is compared, was built on the other.
Every judgement is saved in output/judge-<model>.jsonl, so that it is asked for once. The server's key is read
from JUDGE_API_KEY.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deepred_common import cli, paths, thought
from deepred_common.cli import UserError
from deepred_common.evaluation.results_schema import JudgeInfo
from deepred_common.evaluation.verdicts import Grade
from deepred_common.files import json_text
from deepred_common.foreign_text import ESCAPED
from deepred_common.inference import api_model
from deepred_common.inference.api_model import ApiModel
from deepred_common.judging import answer_match, labelled

API_KEY_VARIABLE = "JUDGE_API_KEY"
VERSION = 2  # raise it when the same reply of a judge is read as another judgement: they are kept under it
_MAX_TOKENS = 256  # room for a model that reasons aloud before it says YES or NO
_PROMPT = (
    "You mark answers. A reply is right if it states the key fact of the reference answer to the question, "
    "in any wording. It is wrong if it contradicts it, hedges between several answers, or leaves it out.\n\n"
    "Question: {question}\nReference answer: {reference}\n{accepted}Reply: {reply}\n\n"
    "Is the reply right? Say YES or NO and nothing else."
)


_VERDICT_FIRST = re.compile(r"\W*(yes\b(?! or\b)|no\b(?! \w))", re.IGNORECASE)


def _prompt(reply: str, reference: str, question: str, accepted: Sequence[str]) -> str:
    hint = f"Any of these shows a right reply: {'; '.join(accepted)}\n" if accepted else ""
    return _PROMPT.format(question=question, reference=reference, accepted=hint, reply=reply)


class NoJudgement(UserError):
    """The judge answered neither YES nor NO."""


class Judge:
    """Grades through `model`, and saves each judgement in the file `cache` (JSON Lines)."""

    def __init__(self, model: ApiModel, cache: Path) -> None:
        self._model = model
        self._cache = cache
        self._judgements: dict[str, bool] = {}
        self.failures = 0  # in a row: requests to which it did not reply
        if cache.exists():
            for line in cache.read_bytes().split(b"\n"):
                # A line that a crash cut short, or that is none of ours: the judge is asked again.
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    row = json.loads(line)
                    self._judgements[row["key"]] = row["right"]

    def grade(self, reply: str, reference: str, question: str, accepted: Sequence[str] = (), /) -> bool:
        """True if the judge calls the reply right.

        NoJudgement if it answers neither YES nor NO, UserError if it cannot be asked.
        """
        prompt = _prompt(reply, reference, question, accepted)
        key = hashlib.sha256(f"{VERSION}\n{self._model.model}\n{prompt}".encode()).hexdigest()
        if key not in self._judgements:
            self._judgements[key] = self._ask(prompt)
            row = {"key": key, "right": self._judgements[key], "question": question, "reply": reply}
            with self._cache.open("a", encoding="utf-8", errors=ESCAPED) as file:
                file.write(json_text(row) + "\n")
        return self._judgements[key]

    def require_reply(self, row: dict) -> None:
        """UserError if it does not reply to a labelled answer now, whatever the cache holds."""
        self._reply(_prompt(row["reply"], row["reference"], row["question"], row["accepted"]))

    def _reply(self, prompt: str) -> str:
        reply = self._model.chat([{"role": "user", "content": prompt}]).text or ""
        self.failures = 0
        return reply

    def _ask(self, prompt: str) -> bool:
        try:
            reply = self._reply(prompt)
        except UserError:
            self.failures += 1
            raise
        text = thought.answer_of(reply)
        if text is None:
            raise NoJudgement(
                f"the judge {self._model.model} was still thinking after {_MAX_TOKENS} tokens. "
                "Turn thinking off in its server."
            )
        in_capitals = re.findall(r"\b(?:YES|NO)\b", text)
        words = in_capitals or re.findall(r"\b(?:YES|NO)\b", text.upper())
        if not words:
            raise NoJudgement(f"the judge {self._model.model} answered neither YES nor NO but {text[:80]!r}.")
        # A verdict may be explained: "YES. There is no contradiction." Models that reason aloud first give it
        # last: "Yes, it names a year, but a wrong one. NO". "Yes or no? …" and "No contradiction …" are no
        # verdicts yet.
        first = _VERDICT_FIRST.match(text)
        if first and (first[1].isupper() or not in_capitals):
            return first[1].upper() == "YES"
        return words[-1] == "YES"


class _Agreement(NamedTuple):
    """A judge's agreement with the labelled answers. agreement, kappa and its 95 % interval: shares of 1."""

    answers: int
    without_judgement: int
    agreement: float
    kappa: float
    low: float
    high: float


def _agreement(judge: Judge) -> _Agreement:
    """Let the judge grade the labelled answers. An answer without a judgement counts as disagreement."""
    from tqdm import tqdm

    rows = labelled.read_labelled("grades", labelled.HELD_OUT)
    pairs = []  # (labelled right, judged right)
    without_judgement = 0
    for row in tqdm(rows, desc="checking the judge", unit="answer"):
        try:
            pairs += labelled.judged_grades([row], judge.grade)
        except NoJudgement:
            without_judgement += 1
            pairs.append((row["right"], not row["right"]))
    agreement = sum(right == judged for right, judged in pairs) / len(pairs)
    kappa, low, high = labelled.kappa(pairs)
    return _Agreement(len(rows), without_judgement, agreement, kappa, low, high)


def grader(url: str | None, model: str | None, timeout: int) -> tuple[JudgeInfo | None, Grade]:
    """What the results file says of the judge (None without a URL), and the function that grades.

    With one, the judge first grades the labelled answers, and its agreement is printed beside the matcher's.
    """
    if url is None:
        if model is not None:
            raise UserError("--judge_model needs --judge_url.")
        return None, answer_match.is_right
    server = api_model.ApiModel(
        url, model, _MAX_TOKENS, timeout=timeout, flag="--judge", key_variable=API_KEY_VARIABLE
    )
    name = server.model
    judge = Judge(server, paths.OUTPUT / f"judge-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.jsonl")
    checked = _agreement(judge)
    rows = labelled.read_labelled("grades", labelled.HELD_OUT)
    matcher, *_ = labelled.kappa(labelled.judged_grades(rows))
    print(
        f"Judge {name}: agrees with the labels on {100 * checked.agreement:.1f}% of {checked.answers} "
        f"labelled answers, kappa {checked.kappa:.2f} [{checked.low:.2f}, {checked.high:.2f}]; "
        f"the built-in matcher's kappa is {matcher:.2f}."
        + (
            f" It answered neither YES nor NO for {checked.without_judgement}, which count as disagreement."
            if checked.without_judgement
            else ""
        ),
        flush=True,
    )
    if checked.kappa < matcher:
        cli.warn(
            "the judge agrees less with the labels than the built-in matcher does. "
            "Leave --judge_url out, or use a better model."
        )

    def grade(reply: str, reference: str, question: str, accepted: Sequence[str] = (), /) -> bool:
        try:
            return judge.grade(reply, reference, question, accepted)
        except UserError as error:
            # One answer without a judgement must not cost the evaluation. But its results name the judge, so
            # they must not be the matcher's once the judge is gone. Some gateways refuse single answers, and
            # many in a row where the others are in the cache: it is there if it replies to a labelled one.
            if judge.failures >= api_model.GIVE_UP_AFTER:
                try:
                    judge.require_reply(rows[0])
                except UserError:
                    raise UserError(
                        f"the judge {name} failed {judge.failures} times in a row: {error}"
                    ) from error
            cli.warn(f"{error}\nThe built-in matcher grades this answer.")
            return answer_match.is_right(reply, reference, question, accepted)

    return {"model": name, "url": url, "kappa": checked.kappa, "agreement": checked.agreement}, grade
