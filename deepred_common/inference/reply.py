"""One reply of a model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """A reply's text, why it ended ("stop", "length" or None if the server does not say); or the error instead of it."""

    text: str | None
    finish: str | None = None
    error: str | None = None
