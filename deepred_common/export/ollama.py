"""A Modelfile for Ollama, whose template language has to render chats as the model's chat template does."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from deepred_common import chat
from deepred_common.cli import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts that no chat template holds, to find the places where a chat's own texts go.
QUESTION, ANSWER, SECOND_QUESTION, SYSTEM = ("⟦first question⟧", "⟦answer⟧", "⟦second question⟧", "⟦system⟧")


def _common_end(a: str, b: str) -> str:
    # Compared by characters, which is what is meant here: these are no paths.
    return os.path.commonprefix([a[::-1], b[::-1]])[::-1]  # noqa: RUF071


def _rendered(tokenizer: PreTrainedTokenizerBase, *turns: tuple[str, str]) -> str:
    """A chat of (role, content) turns as text, less the BOS token, which Ollama adds by itself."""
    messages = [{"role": role, "content": content} for role, content in turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return str(text).removeprefix(tokenizer.bos_token or "")


def template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The Go template that renders chats as `tokenizer`'s chat template does.

    Read off a rendered chat of two turns: the text before the first question, between question and answer,
    and between answer and next question. UserError if turns do not repeat: a template of this form must.
    """
    start, rest = _rendered(
        tokenizer, ("user", QUESTION), ("assistant", ANSWER), ("user", SECOND_QUESTION)
    ).split(QUESTION)
    to_answer, rest = rest.split(ANSWER)
    to_question, last = rest.split(SECOND_QUESTION)
    if last != to_answer:
        raise UserError(
            "the model's chat template ends the last question differently from the others, which a Modelfile "
            "cannot express. Leave --modelfile out."
        )
    before_question = _common_end(start, to_question)
    opening = start.removesuffix(before_question)
    after_answer = to_question.removesuffix(before_question)
    return (
        f"{_opening_with_system(tokenizer, opening, before_question)}"
        f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{before_question}{{{{ .Content }}}}{to_answer}'
        f'{{{{ else if eq .Role "assistant" }}}}{{{{ .Content }}}}{after_answer}{{{{ end }}}}{{{{ end }}}}'
    )


def _opening_with_system(tokenizer: PreTrainedTokenizerBase, opening: str, before_question: str) -> str:
    """The text before the first turn, with a system prompt and without; `opening` if none is possible."""
    from jinja2 import TemplateError

    try:
        text = _rendered(tokenizer, ("system", SYSTEM), ("user", QUESTION))
        before, after = text.split(QUESTION)[0].split(SYSTEM)
    except (TemplateError, ValueError):  # a template without a system role refuses it, or drops it
        return opening
    after = after.removesuffix(before_question)
    return f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}{{{{ else }}}}{opening}{{{{ end }}}}"


def name(gguf: Path) -> str:
    """A name for the file in Ollama, which takes ASCII letters, digits and `_.-` only."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", gguf.stem).strip("-.") or "temporal"


def modelfile(gguf: Path, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of a Modelfile beside `gguf`: greedy, stopping where the model's turn ends."""
    stops = [tokenizer.decode([number]) for number in chat.stop_ids(tokenizer)]
    lines = [
        f"# ollama create {name(gguf)} -f {shlex.quote(f'{gguf.name}.Modelfile')}",
        f"FROM ./{gguf.name}",
        f'TEMPLATE """{template(tokenizer)}"""',
        "PARAMETER temperature 0",
        *(f'PARAMETER stop "{stop}"' for stop in stops),
    ]
    return "\n".join(lines) + "\n"
