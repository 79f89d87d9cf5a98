"""A Modelfile for Ollama, whose template language has to render chats as the model's chat template does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deepred_common import chat, cli, paths, template_changes
from deepred_common.cli import UserError
from deepred_common.examples import ASSISTANT, USER, Message
from deepred_common.files import write_text
from deepred_common.models import loading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts that no chat template holds, to find the places where a chat's own texts go.
SYSTEM = "⟦system⟧"
QUESTION, ANSWER = "⟦question {}⟧", "⟦answer {}⟧"
MOST_QUESTIONS = 4  # of the chats that must come out right: the parts are read off chats of one and three
_NAME_LENGTH = 80  # characters that Ollama allows
# Go's names for what the template asks: how many messages there are from this one on, this one included.
_LEFT = "{{ range $i, $_ := .Messages }}{{ $left := len (slice $.Messages $i) }}"


class _Parts(NamedTuple):
    """The texts around the turns of a chat. Those of the last question may differ from the others'.

    Mistral puts the system prompt before the last question; templates that think open the last reply in
    another way than earlier ones.
    """

    only_start: str  # before the question, where it is the only one
    start: str  # before the first of several
    to_answer: str  # from a question to its answer
    next_question: str  # from an answer to the next question
    last_question: str  # from an answer to the last question
    end: str  # after the last question

    def around(self, questions: int) -> list[str]:
        """The texts before, between and after the turns of a chat of so many questions."""
        if questions == 1:
            return [self.only_start, self.end]
        earlier = [self.start, *[self.to_answer, self.next_question] * (questions - 2)]
        return [*earlier, self.to_answer, self.last_question, self.end]


def template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The Go template that renders chats, with a system prompt or without, as the chat template does.

    Read off rendered chats of one and three questions. UserError if other chats would not come out the same,
    or if there is no chat template.
    """
    if not tokenizer.chat_template:
        raise UserError(
            "the model has no chat template to write a Modelfile from. Leave --modelfile out, or convert a "
            "folder that scripts/merge_lora.py wrote: it has one."
        )
    plain, with_system = _parts(tokenizer, None), _parts(tokenizer, SYSTEM)
    own = [_either("$.System", *pair) for pair in zip(with_system, plain, strict=True)]
    _, _, to_answer, next_question, last_question, end = own
    # The system prompt is a message too.
    start = _either(
        "$.System",
        _either("eq (len $.Messages) 2", with_system.only_start, with_system.start),
        _either("eq (len $.Messages) 1", plain.only_start, plain.start),
    )
    # Nothing follows an answer that is the last message: Ollama has the model continue it.
    return (
        f'{start}{_LEFT}{{{{ if eq .Role "user" }}}}{{{{ .Content }}}}{_either("eq $left 1", end, to_answer)}'
        f'{{{{ else if eq .Role "assistant" }}}}{{{{ .Content }}}}{{{{ if gt $left 1 }}}}'
        f"{_either('eq $left 2', last_question, next_question)}"
        "{{ end }}{{ end }}{{ end }}"
    )


def _either(condition: str, then: str, otherwise: str) -> str:
    """A template that is `then` where Go's `condition` holds."""
    if then == otherwise:
        return then
    return f"{{{{ if {condition} }}}}{then}{{{{ else }}}}{otherwise}{{{{ end }}}}"


def _parts(tokenizer: PreTrainedTokenizerBase, system: str | None) -> _Parts:
    """The parts of the chat template, written in Go's language."""
    only_start, _ = _around(tokenizer, 1, system)
    start, to_answer, next_question, _, last_question, end = _around(tokenizer, 3, system)
    parts = _Parts(only_start, start, to_answer, next_question, last_question, end)
    for questions in range(1, MOST_QUESTIONS + 1):
        if parts.around(questions) != _around(tokenizer, questions, system):
            raise _not_expressible()
    return _Parts(*(_literal(part).replace(_literal(SYSTEM), "{{ $.System }}") for part in parts))


def _around(tokenizer: PreTrainedTokenizerBase, questions: int, system: str | None) -> list[str]:
    """The texts before, between and after the turns of a rendered chat of so many questions."""
    turns: list[Message] = []
    for number in range(questions):
        turns.append({"role": USER, "content": QUESTION.format(number)})
        turns.append({"role": ASSISTANT, "content": ANSWER.format(number)})
    text = chat.prompt_text(tokenizer, turns[:-1], system)
    if _adds_bos(tokenizer):
        text = text.removeprefix(tokenizer.bos_token or "")
    around = []
    for turn in turns[:-1]:
        before, mark, text = text.partition(turn["content"])
        if not mark:
            raise _not_expressible()
        around.append(before)
    return [*around, text]


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """True if Ollama puts the BOS token before a chat: it does so where the tokenizer does, and only there.

    SmolLM2's is `<|im_start|>`, which its tokenizer does not add: the template has to write it.
    """
    return tokenizer.bos_token is not None and tokenizer("Q")["input_ids"][:1] == [tokenizer.bos_token_id]


def _literal(text: str) -> str:
    """A text as it must stand in a Go template in a Modelfile, which drops characters that cannot be seen."""

    def escaped(match: re.Match[str]) -> str:
        part = match[0]
        if part in (" ", "\n") or (part.isprintable() and part not in ("{", '"""')):
            return part
        return '{{ "' + "".join(f"\\U{ord(character):08x}" for character in part) + '" }}'

    return re.sub(r'"""|[\s\S]', escaped, text)


def _not_expressible() -> UserError:
    return UserError(
        "the model's chat template renders some turns of a chat differently from others, which a Modelfile "
        "cannot express.\nLeave --modelfile out, and use the file in LM Studio or with llama-server: they "
        "read the template in it."
    )


def create_command(gguf: Path, modelfile_path: str | Path) -> str:
    """The command that loads a Modelfile, with a name that Ollama takes."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", gguf.stem).strip(".-")[:_NAME_LENGTH] or "model"
    return f"ollama create {name} -f {paths.quoted(modelfile_path)}"


def modelfile(gguf: Path, model: Path) -> str:
    """The text of a Modelfile beside `gguf`: greedy, stopping where the model's turn ends.

    model: the folder that `gguf` is made from. UserError if a Modelfile cannot express its chat template.
    """
    loading.set_up_libraries()
    tokenizer = loading.load_tokenizer(model)
    # A template whose date lines were removed may still hold the call that asks for the date.
    if "strftime_now" in str(tokenizer.chat_template) and template_changes.date_in_prompt(tokenizer):
        cli.warn("the chat template writes the day's date into prompts; the Modelfile keeps today's.")
    stops = [tokenizer.decode([number]) for number in chat.stop_ids(tokenizer)]
    lines = [
        f"# {create_command(gguf, modelfile_path(gguf).name)}",
        f"FROM ./{gguf.name}",
        f'TEMPLATE """{template(tokenizer)}"""',
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",  # before August 2026 Ollama's own was 1.1 (ollama #17679)
        *(f'PARAMETER stop "{stop}"' for stop in stops),
    ]
    return "\n".join(lines) + "\n"


def modelfile_path(gguf: Path) -> Path:
    """Where the Modelfile for `gguf` is written: <gguf>.Modelfile."""
    return gguf.with_name(gguf.name + ".Modelfile")


def write_modelfile(gguf: Path, text: str) -> str:
    """Write the Modelfile; return its path with the command that loads it, as printed."""
    path = modelfile_path(gguf)
    write_text(path, text)
    return f"{paths.shown(path)}  ({create_command(gguf, path)})"
