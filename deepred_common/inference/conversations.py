"""Asking whole conversations: the model writes the replies that are missing, one turn after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from deepred_common import thought
from deepred_common.chat import messages
from deepred_common.conversation import first_gap, with_replies
from deepred_common.examples import Prompt
from deepred_common.inference.protocol import Backend, Reply


def ask(model: Backend, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Reply]]:
    """Yield (index, Reply) for each prompt, in any order, as Backend.ask does.

    Where one user turn follows another, the model first replies to the earlier one; Reply.turns holds these
    replies. The conversation goes on with their answers, without the thoughts. If one of them fails, or is
    nothing but a thought, it is yielded, and the conversation ends.
    """
    conversations = [messages(prompt) for prompt in prompts]
    turns: list[list[str]] = [[] for _ in prompts]
    failed: set[int] = set()
    while True:
        gaps = {index: first_gap(conversation) for index, conversation in enumerate(conversations)}
        waiting = [index for index, gap in gaps.items() if gap is not None and index not in failed]
        if not waiting:
            break
        for place, reply in model.ask([conversations[index][: gaps[index]] for index in waiting]):
            index = waiting[place]
            answer = thought.answer_of(reply.text) if reply.text is not None else None
            if reply.text is None or answer is None:
                failed.add(index)
                yield index, reply
            else:
                conversations[index] = with_replies(conversations[index], [answer])
                turns[index].append(reply.text)
    complete = [index for index in range(len(prompts)) if index not in failed]
    for place, reply in model.ask([conversations[index] for index in complete]):
        index = complete[place]
        yield index, dataclasses.replace(reply, turns=tuple(turns[index]))
