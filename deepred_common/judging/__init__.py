"""Judging one reply: is it a refusal, is it the right answer; and the labelled sets that measure this."""
