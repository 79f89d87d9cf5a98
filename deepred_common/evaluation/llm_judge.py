"""A model as judge: any OpenAI-compatible server grades answers against their references, once it has been checked itself.

Before it is believed, it grades the labelled set (datasets/labelled/grades.jsonl), and its agreement is printed. Every
judgement is kept in output/judge-<model>.jsonl, so that it is asked once for each. A key for it is read from JUDGE_API_KEY.
"""

import hashlib
import json
import re

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.judging import answer_match, labelled

_PROMPT = (
    "You mark answers. A reply is right if it states the key fact of the reference answer to the question, in any wording. It is wrong if it "
    "contradicts it, hedges between several answers, or leaves it out.\n\nQuestion: {question}\nReference answer: {reference}\n"
    "{accepted}Reply: {reply}\n\nIs the reply right? Say YES or NO and nothing else."
)


class NoJudgement(UserError):
    """The judge said neither YES nor NO."""


class Judge:
    """Grades through replies.ApiModel `model`, remembering each judgement in the file `cache`."""

    def __init__(self, model, cache):
        self._model = model
        self._cache = cache
        self._known = {}
        if cache.exists():
            for line in cache.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # a line cut short by a crash: it is asked again
                self._known[row["key"]] = row["right"]

    def grade(self, reply, reference, question, accepted=()):
        """True if the judge calls the reply right. NoJudgement if it says neither YES nor NO, UserError if it cannot be asked."""
        hint = f"Any of these shows a right reply: {'; '.join(accepted)}\n" if accepted else ""
        prompt = _PROMPT.format(question=question, reference=reference, accepted=hint, reply=reply)
        key = hashlib.sha256(f"{self._model.model}\n{prompt}".encode()).hexdigest()
        if key not in self._known:
            said = self._model.chat([{"role": "user", "content": prompt}]).text
            # Models that reason aloud first give their judgement last.
            found = re.findall(r"\b(YES|NO)\b", said.upper())
            if not found:
                raise NoJudgement(f"the judge {self._model.model} said neither YES nor NO but {said[:80]!r}.")
            self._known[key] = found[-1] == "YES"
            with self._cache.open("a", encoding="utf-8") as file:
                file.write(
                    json.dumps(
                        {"key": key, "right": self._known[key], "question": question, "reply": reply},
                        ensure_ascii=False,
                    )
                    + "\n"
                )
        return self._known[key]


def grader(url, model, timeout):
    """(what the results file says of the judge, or None; the grade function to use): the matcher without a URL.

    With one, the judge first grades the labelled set, and its agreement is printed beside the matcher's.
    """
    if url is None:
        if model is not None:
            raise UserError("--judge_model needs --judge_url.")
        return None, answer_match.is_right
    from tqdm import tqdm

    from deepred_common.inference import api_model

    asked = api_model.ApiModel(
        url, model, max_tokens=256, timeout=timeout, flag="--judge", key_variable="JUDGE_API_KEY"
    )
    judge = Judge(asked, paths.OUTPUT / f"judge-{re.sub(r'[^A-Za-z0-9._-]+', '-', asked.model)}.jsonl")
    rows = labelled.read_labelled("grades")
    silent = 0
    pairs = []
    for row in tqdm(rows, desc="checking the judge", unit="answer"):
        try:
            pairs += labelled.judged_grades([row], judge.grade)
        except NoJudgement:
            # A judge that has no word on an answer does not agree with its label.
            silent += 1
            pairs.append((row["right"], not row["right"]))
    kappa, low, high = labelled.kappa(pairs)
    own, *_ = labelled.kappa(labelled.judged_grades(rows))
    agreed = sum(right == judged for right, judged in pairs) / len(pairs)
    print(
        f"Judge {asked.model}: agrees with the labels on {100 * agreed:.1f}% of {len(rows)} labelled answers, "
        f"kappa {kappa:.2f} [{low:.2f}, {high:.2f}]; the built-in matcher's kappa is {own:.2f}."
        + (f" It said neither YES nor NO to {silent}, which count as disagreement." if silent else ""),
        flush=True,
    )
    if kappa < own:
        cli.warn(
            "the judge agrees less with the labels than the built-in matcher does; leave --judge_url out, or take a better model."
        )

    def grade(reply, reference, question, accepted=()):
        try:
            return judge.grade(reply, reference, question, accepted)
        except UserError as error:
            # One answer that the judge has no word on must not cost the evaluation.
            cli.warn(f"{error} The built-in matcher grades this one.")
            return answer_match.is_right(reply, reference, question, accepted)

    return {"model": asked.model, "url": url, "kappa": kappa, "agreement": agreed}, grade
