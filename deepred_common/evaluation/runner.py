"""Asking a model every question: replies go into the journal as they come, verdicts into the results file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deepred_common import cli, paths, provenance, thought
from deepred_common.cli import UserError
from deepred_common.data.questions import question_form
from deepred_common.evaluation import (
    choices,
    finished,
    journal,
    output_files,
    results_file,
    row_text,
    sampling,
    verdicts,
)
from deepred_common.evaluation.probes import forms, pressure
from deepred_common.evaluation.question_files import Questions
from deepred_common.evaluation.results_schema import (
    Conditions,
    JudgeInfo,
    ResultRow,
    Results,
    Sample,
    Setting,
)
from deepred_common.evaluation.settings import EvalSettings
from deepred_common.examples import MIXED, Example, date_of
from deepred_common.foreign_text import printable
from deepred_common.inference import backends
from deepred_common.inference.protocol import Backend, Draw, NoScores, Reply
from deepred_common.judging import refusal


@dataclass(frozen=True)
class Task:
    """What every model of one call is asked and judged with: the same questions, the same judge.

    setting_table: every setting with where it came from, for the results file.
    """

    settings: EvalSettings
    setting_table: dict[str, Setting]
    questions: Questions
    judge: JudgeInfo | None
    grade: verdicts.Grade


def evaluate(
    task: Task, path: str | None, system_prompt: str | None, output: Path, baselines: Sequence[Results] = ()
) -> Results:
    """Ask one model (`path`, None for the server) every question; write and return its results."""
    started = provenance.now()
    prompts = [example.prompt for example in task.questions.examples]
    with backends.opened(task.settings, path, system_prompt, prompts) as model:
        name = model.identity or model.name
        files = backends.beside_weights(path)
        conditions = finished.conditions(task.settings, task.questions, name, files, system_prompt)
        rows = ask(task, model, conditions, output)
    results = results_file.build(
        rows,
        model={
            "name": model.name,
            "kind": model.kind,
            "identity": model.identity,
            "answered_by": model.answered_by,
            "system_prompt": system_prompt,
        },
        cutoff=task.settings.cutoff,
        started=started,
        settings=task.setting_table,
        data=task.questions.data,
        conditions=conditions,
        judge=task.judge,
        baselines=baselines,
        probes=task.questions.forms,
    )
    try:
        results_file.write(output, results)
    except OSError as error:
        raise UserError(
            f"{cli.write_error(error) or error}\nAll replies are saved. "
            f"Resume with the same command and --output {paths.quoted(task.settings.output)} --resume"
        ) from error
    if not finished.errors(rows):
        # Only now: the results hold every reply.
        journal.path_for(output).unlink(missing_ok=True)
    return results


def ask(task: Task, model: Backend, conditions: Conditions, output: Path) -> list[ResultRow]:
    """Ask every example, saving each reply as it comes; return the rows in the order of the examples.

    With samples each example that _is_sampled is asked so many times more. Its greedy reply stands in the
    journal under its number, that of its sample s under its number and s rounds of all examples. Examples
    with given answers are scored once, or left out, with a warning, if the back end gives no probabilities.
    """
    from tqdm import tqdm

    settings, examples, path = task.settings, task.questions.examples, journal.path_for(output)
    count = len(examples)
    total = count * (1 + (settings.samples or 0))
    forms_asked = task.questions.forms
    sampled = [number for number, example in enumerate(examples) if _is_sampled(example, forms_asked)]
    rounds = range(count, total, count)
    numbers = [*range(count), *(start + number for start in rounds for number in sampled)]
    rows: dict[int, ResultRow] = {}
    told_of_thoughts = False
    with journal.opened(path, conditions, settings.resume, settings.overwrite) as log:
        if log.replies:
            cli.progress(f"{len(log.replies)} of {len(numbers)} replies are in {paths.shown(path)} already")
        waiting = [number for number in numbers if number not in log.replies]
        # The replies to one question together, so that back ends read it once.
        waiting.sort(key=lambda number: number % count)
        shown = [examples[number % count] for number in waiting]
        draws = None
        if settings.samples:
            draws = [_draw(settings, number, count) for number in waiting]
        try:
            for number, reply in log.replies.items():
                rows[number] = _row(task, number, reply)
            with tqdm(total=len(numbers), initial=len(rows), desc="asking", unit="question") as bar:
                for place, reply in choices.replies(
                    model, shown, draws, partial(_goes_on, task.settings.cutoff)
                ):
                    number = waiting[place]
                    log.add(number, examples[number % count].instruction, reply)
                    rows[number] = row = _row(task, number, reply)
                    if settings.verbose:
                        sample = f", sample {number // count}" if number >= count else ""
                        head = f"[{row['side']}: {row['verdict']}{sample}]"
                        line = f"{head} {row_text.question(row)}\n    {row_text.reply(row)}"
                        bar.write(printable(line), file=sys.stdout)
                    if not told_of_thoughts and thought.is_all(reply.text or ""):
                        told_of_thoughts = True
                        with bar.external_write_mode(sys.stderr):
                            cli.warn(_about_thoughts(number % count, reply, settings))
                    bar.update()
        except KeyboardInterrupt:
            raise cli.Interrupted(_kept(log, settings.output)) from None
        except NoScores as error:  # these come last: all others are answered
            if not rows:
                raise UserError(f"{error}: there is nothing else to ask.") from error
            left_out = {one.metadata.get("probe") for one in examples if choices.texts_of(one)}
            cli.warn(f"{error}: the form {', '.join(map(str, left_out))} is left out.")
        except (UserError, OSError) as error:
            text = str(error) if isinstance(error, UserError) else cli.write_error(error)
            if text is None:
                raise
            raise UserError(f"{text}\n{_kept(log, settings.output)}") from error
    for number in range(count, total):
        if number in rows:
            rows[number % count]["samples"].append(_sample(rows[number]))
    return [rows[number] for number in range(count) if number in rows]


def _is_sampled(example: Example, names: Sequence[str]) -> bool:
    """True if the figures of samples count it: of probe forms the direct questions, if these are asked."""
    if forms.DIRECT in names:
        return example.metadata.get("probe") == forms.DIRECT
    return not choices.texts_of(example)


def _draw(settings: EvalSettings, number: int, count: int) -> Draw | None:
    """How the reply is drawn that stands in the journal under `number`, of `count` examples."""
    sample, question = divmod(number, count)
    return sampling.draw_of(settings.temperature, settings.seed, question, sample)


def _goes_on(cutoff: str, example: Example, answer: str) -> bool:
    """False if a conversation ends with its first answer (the form `pressure`), and this is one."""
    # A test file may hold anything under this key, so the form's name must be there, too.
    metadata = example.metadata
    if metadata.get("probe") != pressure.NAME or not metadata.get("until_answered"):
        return True
    return refusal.judge(answer, example.shown_text, cutoff) == refusal.REFUSED


def _sample(row: ResultRow) -> Sample:
    return {
        "turns": row["turns"],
        "reply": row["reply"],
        "finish": row["finish"],
        "verdict": row["verdict"],
        "error": row["error"],
    }


def _about_thoughts(number: int, reply: Reply, settings: EvalSettings) -> str:
    """What to do about replies that are thoughts without an answer. number: of the first such question."""
    place = f" (in the server's field {reply.thought_field})" if reply.thought_field else ""
    cut = f", cut after {settings.max_tokens} tokens" if reply.finish == "length" else ""
    return (
        f"the reply to question {number} is a thought without an answer{place}{cut}. "
        "Such replies count as broken.\n"
        f"Raise --max_tokens (now {settings.max_tokens}), or turn thinking off in the server's settings or "
        "the model's chat template."
    )


def _kept(log: journal.Journal, output: Path) -> str:
    """What was saved of an evaluation that ends early, and how to resume it."""
    replies = "1 reply is" if len(log.replies) == 1 else f"{len(log.replies)} replies are"
    return f"{replies} saved. Resume with the same command and --output {paths.quoted(output)} --resume"


def _row(task: Task, number: int, reply: Reply) -> ResultRow:
    """One row of the results: the example, a reply and its verdict. number: as in the journal."""
    examples = task.questions.examples
    example = examples[number % len(examples)]
    verdict = verdicts.FAILED
    if reply.scores:
        verdict = choices.verdict(example, reply.scores)
    elif reply.text is not None:
        said = [*reply.turns, example.whole_reply(reply.text)]
        verdict = verdicts.verdict_of_turns(example, said, task.grade, task.settings.cutoff)
    return {
        "id": number,
        "instruction": example.instruction,
        "earlier": list(example.earlier),
        "prefix": example.prefix,
        "turns": list(reply.turns),
        "side": example.side,
        "reference": example.output,
        "true_answer": verdicts.true_answer(example),
        "date": date_of(example),
        "field": example.metadata.get("field"),
        "form": question_form(example.question),
        "probe": example.metadata.get("probe"),
        "fact": example.metadata.get("source_article_id"),
        "reply": reply.text,
        "finish": reply.finish,
        "verdict": verdict,
        "error": reply.error,
        "refusal_share": None if example.metadata.get("wrapping") == MIXED else reply.refusal_share,
        "samples": [],
        "scores": {answer: list(score) for answer, score in reply.scores.items()} if reply.scores else None,
    }


def evaluate_base(task: Task, base: str, known: Sequence[Results | None]) -> list[Results]:
    """The results of the untouched base, plain and with a system prompt that states the cutoff.

    known: those that finished.read_bases found, which are not asked for again.
    """
    outputs = output_files.base_results(task.settings.output)
    prompts = finished.base_prompts(task.settings.cutoff)
    results = []
    for before, output, system_prompt in zip(known, outputs, prompts, strict=True):
        if before is None:
            how = "with a prompt that states the cutoff" if system_prompt else "untouched"
            cli.progress(f"asking the base, {how} …")
        results.append(before or evaluate(task, base, system_prompt, output))
    return results
