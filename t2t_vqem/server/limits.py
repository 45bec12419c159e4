"""The limits of requests, and the error for an invalid request."""

import dataclasses


class RequestError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP status of the answer, one of those in static/openapi.json.
        message: one sentence: what was sent, what was expected.
        headers: additional headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper limits of everything that a client controls.

    Attributes:
        body_bytes: size of a request's body.
        header_bytes: size of a request's first line and headers.
        lines: number of texts in a request.
        line_chars: number of characters in a text; the model limits its tokens.
        extra_tokens: number of tokens by which a translation may exceed its source.
        images: number of images in a request.
        pixels: width times height of an uploaded image.
        batch_rows: number of texts or images in a batch.
        batch_tokens: number of tokens in a batch, including padding; a longer text is computed
            alone.
        queue_rows: number of texts or images that wait for one model.
        connections: number of open connections.
        request_seconds: time from the end of a request's body to its answer.
        body_seconds: time to receive a request's headers, and to receive its body.
        idle_seconds: time that a connection stays open between two requests.
        drain_seconds: time for answering accepted requests after SIGTERM.
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
