"""A Modelfile for Ollama, whose own template language has to say what the model's chat template says."""

from deepred_common import chat
from deepred_common.cli import UserError

_Q1, _A, _Q2, _SYSTEM = "⟦first question⟧", "⟦answer⟧", "⟦second question⟧", "⟦system⟧"


def _common_end(a, b):
    size = 0
    while size < min(len(a), len(b)) and a[-1 - size] == b[-1 - size]:
        size += 1
    return a[len(a) - size :]


def template(tokenizer):
    """The Go template that renders chats as `tokenizer`'s chat template does, less the BOS token, which Ollama adds by itself.

    Read off a rendered chat of two turns: what stands before the first question, between question and answer, and
    between answer and next question. UserError if turns do not repeat, so that it cannot be said in this form.
    """

    def rendered(*turns):
        text = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            tokenize=False,
            add_generation_prompt=True,
        )
        return text.removeprefix(tokenizer.bos_token or "")

    start, rest = rendered(("user", _Q1), ("assistant", _A), ("user", _Q2)).split(_Q1)
    to_answer, rest = rest.split(_A)
    to_question, last = rest.split(_Q2)
    if last != to_answer:
        raise UserError(
            "the model's chat template ends its last question in another way than the others; no Modelfile can say that."
        )
    question = _common_end(start, to_question)
    opening, end = start.removesuffix(question), to_question.removesuffix(question)
    try:
        before, after = rendered(("system", _SYSTEM), ("user", _Q1)).split(_Q1)[0].split(_SYSTEM)
        with_system = f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after.removesuffix(question)}{{{{ else }}}}{opening}{{{{ end }}}}"
    except Exception:  # a template that knows no system role refuses it in its own words, or drops it
        with_system = opening
    return (
        f'{with_system}{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{question}{{{{ .Content }}}}{to_answer}'
        f'{{{{ else if eq .Role "assistant" }}}}{{{{ .Content }}}}{end}{{{{ end }}}}{{{{ end }}}}'
    )


def modelfile(gguf, tokenizer):
    """The text of a Modelfile beside `gguf`: greedy, stopping where the model's turn ends."""
    stops = "".join(f'PARAMETER stop "{tokenizer.decode([number])}"\n' for number in chat.stop_ids(tokenizer))
    return (
        f'# ollama create {gguf.stem} -f {gguf.name}.Modelfile\nFROM ./{gguf.name}\nTEMPLATE """{template(tokenizer)}"""\n'
        f"PARAMETER temperature 0\n{stops}"
    )
