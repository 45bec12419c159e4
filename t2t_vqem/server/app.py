"""The application: the endpoints and their routes."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from t2t_vqem.server import metrics as metrics_lib
from t2t_vqem.server.body import (
    Body,
    check_base64,
    check_codes,
    check_count,
    check_text,
    parse_json,
)
from t2t_vqem.server.guard import Guard, json_response
from t2t_vqem.server.limits import Limits, RequestError
from t2t_vqem.server.models import ImageService, Sampling, Search, Service, TextService
from t2t_vqem.server.static_files import static_routes

_Kind = TypeVar("_Kind", bound=Service)
_SIGNATURE = "serving_default"
_MOST_SEED = 2**31 - 1
_MOST_ALPHA = 10.0
_MOST_TEMPERATURE = 100.0


def make_app(
    services: Sequence[Service],
    limits: Limits,
    metrics: metrics_lib.Metrics,
    *,
    token: str | None = None,
    hosts: Collection[str] = (),
) -> Guard:
    """Returns the ASGI application.

    Args:
        services: the models, with different names.
        limits: the limits of requests.
        metrics: the metrics that count requests.
        token: see `Guard`.
        hosts: see `Guard`.
    """
    api = Api({service.name: service for service in services}, limits, metrics)
    routes = [
        Route("/healthz", api.health),
        Route("/metrics", api.metrics_text),
        Route("/v1/models", api.models),
        Route("/v1/translate", api.translate, methods=["POST"]),
        Route("/v1/score", api.score, methods=["POST"]),
        Route("/v1/images/sample", api.sample, methods=["POST"]),
        Route("/v1/images/encode", api.encode, methods=["POST"]),
        Route("/v1/images/decode", api.decode, methods=["POST"]),
        Route("/v1/models/{name}/codes", api.codes),
        Route("/v1/models/{name}:predict", api.predict, methods=["POST"]),
        Route("/v1/models/{name}/versions/1:predict", api.predict, methods=["POST"]),
        Route("/v1/models/{name}", api.model_status),
        Route("/v1/models/{name}/versions/1", api.model_status),
        *static_routes(),
    ]
    return Guard(Router(routes, redirect_slashes=False), limits, metrics, token=token, hosts=hosts)


class Api:
    """The endpoints."""

    def __init__(
        self, services: Mapping[str, Service], limits: Limits, metrics: metrics_lib.Metrics
    ):
        """Stores its arguments."""
        self._services, self._limits, self._metrics = services, limits, metrics

    async def health(self, request: Request) -> Response:
        """Reports that the server is ready: it accepts requests only after loading its models."""
        del request
        return json_response({"status": "ok"})

    async def metrics_text(self, request: Request) -> Response:
        """Returns counters and histograms for Prometheus."""
        del request
        return Response(self._metrics.text(), media_type=metrics_lib.CONTENT_TYPE)

    async def models(self, request: Request) -> Response:
        """Describes the models and their capabilities."""
        del request
        return json_response({"models": [service.card for service in self._services.values()]})

    async def translate(self, request: Request) -> Response:
        """Translates texts, or decodes given codes."""
        begin = time.perf_counter()
        body = parse_json(await request.body())
        service = self._find(body, TextService)
        texts, listed = body.strings("text", most=self._limits.lines, chars=self._limits.line_chars)
        codes = self._codes(body, service, len(texts), listed)
        search = self._search(body)
        body.end()
        found = await service.translate(texts, search, codes)
        return json_response(
            {
                "model": service.name,
                "milliseconds": _milliseconds(begin),
                "translations": found if listed else found[0],
            }
        )

    async def score(self, request: Request) -> Response:
        """Returns the log-probabilities of given translations."""
        begin = time.perf_counter()
        body = parse_json(await request.body())
        service = self._find(body, TextService)
        bounds = {"most": self._limits.lines, "chars": self._limits.line_chars}
        sources, listed = body.strings("source", **bounds)
        targets, _ = body.strings("target", **bounds)
        body.end()
        if len(sources) != len(targets):
            raise RequestError(
                422,
                f"source has {len(sources)} texts and target {len(targets)}, expected the same "
                "number.",
            )
        found = await service.score(sources, targets)
        return json_response(
            {
                "model": service.name,
                "milliseconds": _milliseconds(begin),
                "scores": found if listed else found[0],
            }
        )

    async def codes(self, request: Request) -> Response:
        """Returns the most frequent phrases of each code of a latent model in training text."""
        service = self._named(request)
        if service.phrases is None:
            raise RequestError(404, f"Model {service.name} has no phrases for its codes.")
        return json_response({"model": service.name, "codes": service.phrases})

    async def sample(self, request: Request) -> Response:
        """Draws images."""
        begin = time.perf_counter()
        body = parse_json(await request.body())
        service = self._find(body, ImageService)
        num = body.integer("num", 1, least=1, most=self._limits.images)
        sampling = Sampling(
            seed=body.integer("seed", 0, least=0, most=_MOST_SEED),
            temperature=body.number("temperature", 1.0, least=0.01, most=_MOST_TEMPERATURE),
            top_k=body.integer("top_k", 0, least=0, most=_MOST_SEED),
        )
        body.end()
        found = await service.sample(num, sampling)
        return json_response({"model": service.name, **found, "milliseconds": _milliseconds(begin)})

    async def encode(self, request: Request) -> Response:
        """Encodes image files into codes, and decodes the codes."""
        begin = time.perf_counter()
        body = parse_json(await request.body())
        service = self._find(body, ImageService)
        files = [
            check_base64(value, f"images[{i}]")
            for i, value in enumerate(body.array("images", most=self._limits.images))
        ]
        body.end()
        found = await service.encode(files)
        return json_response({"model": service.name, **found, "milliseconds": _milliseconds(begin)})

    async def decode(self, request: Request) -> Response:
        """Decodes codes into images."""
        begin = time.perf_counter()
        body = parse_json(await request.body())
        service = self._find(body, ImageService)
        grids = [
            check_codes(
                value,
                f"codes[{i}]",
                below=service.num_codes,
                least=service.codes_per_image,
                most=service.codes_per_image,
            )
            for i, value in enumerate(body.array("codes", most=self._limits.images))
        ]
        body.end()
        found = await service.decode(grids)
        return json_response({"model": service.name, **found, "milliseconds": _milliseconds(begin)})

    async def predict(self, request: Request) -> Response:
        """Translates, in the format of TensorFlow Serving's REST API."""
        service = self._named(request)
        if not isinstance(service, TextService):
            raise RequestError(422, f"Model {service.name} does not translate.")
        body = parse_json(await request.body())
        signature = body.string("signature_name", most=100)
        if signature not in (None, _SIGNATURE):
            raise RequestError(422, f"signature_name is unknown, expected {_SIGNATURE}.")
        by_row = "instances" in body
        texts = self._texts_of_predict(body, by_row)
        body.end()
        found = await service.translate(texts, Search(), None)
        if by_row:
            return json_response({"predictions": found})
        names = [name for name in found[0] if name != "alternatives"]
        return json_response({"outputs": {name: [row[name] for row in found] for name in names}})

    def _texts_of_predict(self, body: Body, by_row: bool) -> list[str]:
        """Returns the texts of "instances", one text each, or of "inputs", an array of texts."""
        limits = self._limits
        if by_row:
            rows = body.array("instances", most=limits.lines)
            texts = [row.get("text") if isinstance(row, dict) else row for row in rows]
        else:
            value = body.take("inputs")
            texts = value.get("text") if isinstance(value, dict) else value
            if not isinstance(texts, list):
                raise RequestError(
                    422, 'Expected "instances", an array of texts, or "inputs", {"text": [texts]}.'
                )
            check_count(len(texts), "inputs", limits.lines)
        return [check_text(text, f"text {i}", limits.line_chars) for i, text in enumerate(texts)]

    async def model_status(self, request: Request) -> Response:
        """Reports that a model is available, in the format of TensorFlow Serving's REST API."""
        self._named(request)
        status = {"error_code": "OK", "error_message": ""}
        version = {"version": "1", "state": "AVAILABLE", "status": status}
        return json_response({"model_version_status": [version]})

    def _named(self, request: Request) -> Service:
        """Returns the model that the path names."""
        name = request.path_params["name"]
        if name not in self._services:
            raise RequestError(404, f"No model {name[:80]!r}, {self._listing(Service)}.")
        return self._services[name]

    def _find(self, body: Body, kind: type[_Kind]) -> _Kind:
        """Returns the model that a body names, or the only one of its kind."""
        fitting = [service for service in self._services.values() if isinstance(service, kind)]
        name = body.string("model", most=1000)
        if name is None and len(fitting) == 1:
            return fitting[0]
        for service in fitting:
            if service.name == name:
                return service
        if name is None:
            raise RequestError(422, f"model is missing, {self._listing(kind)}.")
        raise RequestError(404, f"No model {name[:80]!r} for this, {self._listing(kind)}.")

    def _listing(self, kind: type[Service]) -> str:
        names = [s.name for s in self._services.values() if isinstance(s, kind)]
        return f"expected one of: {', '.join(names)}" if names else "there is none of this kind"

    def _search(self, body: Body) -> Search:
        """Takes the search options from a body."""
        limits = self._limits
        return Search(
            alpha=body.optional("alpha", body.number, least=0.0, most=_MOST_ALPHA),
            extra_length=body.optional(
                "extra_length", body.integer, least=1, most=limits.extra_tokens
            ),
            temperature=body.optional(
                "temperature", body.number, least=0.0, most=_MOST_TEMPERATURE
            ),
            top_k=body.optional("top_k", body.integer, least=0, most=_MOST_SEED),
            seed=body.integer("seed", 0, least=0, most=_MOST_SEED),
        )

    def _codes(
        self, body: Body, service: TextService, count: int, listed: bool
    ) -> list[list[int]] | None:
        """Takes the codes of each text; None if no codes are given."""
        given = body.take("codes")
        if given is None:
            return None
        rows = given if listed else [given]
        if not isinstance(rows, list) or len(rows) != count:
            raise RequestError(422, f"codes: expected one array for each text, {count} in all.")
        return [service.check_codes(row, f"codes[{i}]") for i, row in enumerate(rows)]


def _milliseconds(begin: float) -> float:
    return round((time.perf_counter() - begin) * 1000, 3)
