"""`Refusal`: a request is answered with an error, an HTTP status and one sentence."""

from __future__ import annotations


class Refusal(Exception):
    """Raised anywhere between reading a request and answering it.

    Attributes:
        status: HTTP status.
        message: one sentence for the client; never reveals what the client may not know.
        headers: further response headers, such as Retry-After.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}
