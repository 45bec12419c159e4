"""What a request may ask for, and the error of one that asks for more."""

import dataclasses


class RequestError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of the answer, one of those in static/openapi.json.
        message: one sentence: what was sent, what is expected.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of everything that a client decides.

    Attributes:
        body_bytes: bytes of a request's body.
        header_bytes: bytes of a request's first line and headers.
        lines: texts of a request.
        line_chars: characters of a text; its tokens are bounded by the model.
        extra_tokens: tokens that a translation may have more than its source.
        images: images of a request.
        pixels: width times height of an uploaded image.
        batch_rows: texts or images that are computed at once.
        batch_tokens: tokens of a batch, padding counted; a longer text is computed alone.
        queue_rows: texts or images that may wait for one model.
        connections: open connections.
        request_seconds: time from the end of a request's body to its answer.
        body_seconds: time for a request's headers, and for its body.
        idle_seconds: time that a connection may be open between two requests.
        drain_seconds: time that answers may take after SIGTERM.
    """

    body_bytes: int = 4 << 20
    header_bytes: int = 16 << 10
    lines: int = 256
    line_chars: int = 10_000
    extra_tokens: int = 200
    images: int = 64
    pixels: int = 20_000_000
    batch_rows: int = 8
    batch_tokens: int = 512
    queue_rows: int = 2048
    connections: int = 512
    request_seconds: float = 30.0
    body_seconds: float = 10.0
    idle_seconds: float = 15.0
    drain_seconds: float = 40.0
