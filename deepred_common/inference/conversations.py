"""Asking whole conversations: the model writes the replies that are missing, one turn after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from deepred_common import thought
from deepred_common.chat import messages
from deepred_common.conversation import first_gap, with_replies
from deepred_common.examples import Prompt
from deepred_common.inference.protocol import Backend, Draw, Draws, Reply

# (index of a prompt, the answer to one of its earlier turns) -> is the next turn asked?
GoesOn = Callable[[int, str], bool]


def ask(
    model: Backend, prompts: Sequence[Prompt], draws: Draws | None = None, goes_on: GoesOn | None = None
) -> Iterator[tuple[int, Reply]]:
    """Yield (index, Reply) for each prompt, in any order, as Backend.ask does.

    Where one user turn follows another, the model first replies to the earlier one; Reply.turns holds these
    replies. The conversation goes on with their answers, without the thoughts. If one of them fails, is
    nothing but a thought, or goes_on says so, it is yielded, and the conversation ends.
    """
    conversations = [messages(prompt) for prompt in prompts]
    turns: list[list[str]] = [[] for _ in prompts]
    ended: set[int] = set()

    def replies(shown: Sequence[Prompt], indices: Sequence[int]) -> Iterator[tuple[int, Reply]]:
        if draws is None:
            return model.ask(shown)
        return model.ask(shown, [_of_turn(draws[index], len(turns[index])) for index in indices])

    while True:
        gaps = {index: first_gap(conversation) for index, conversation in enumerate(conversations)}
        waiting = [index for index, gap in gaps.items() if gap is not None and index not in ended]
        if not waiting:
            break
        for place, reply in replies([conversations[index][: gaps[index]] for index in waiting], waiting):
            index = waiting[place]
            answer = thought.answer_of(reply.text) if reply.text is not None else None
            if reply.text is None or answer is None or (goes_on and not goes_on(index, answer)):
                ended.add(index)
                yield index, dataclasses.replace(reply, turns=tuple(turns[index]))
            else:
                conversations[index] = with_replies(conversations[index], [answer])
                turns[index].append(reply.text)
    complete = [index for index in range(len(prompts)) if index not in ended]
    for place, reply in replies([conversations[index] for index in complete], complete):
        index = complete[place]
        yield index, dataclasses.replace(reply, turns=tuple(turns[index]))


def _of_turn(draw: Draw | None, turn: int) -> Draw | None:
    """The Draw of one turn of a conversation: each has random numbers of its own."""
    return draw and dataclasses.replace(draw, seed=draw.seed ^ turn)
