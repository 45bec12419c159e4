"""What is refused before any model sees it, and how errors are answered, over real connections."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router

from t2t_vqem.server.guard import HEADERS, Guard
from t2t_vqem.server.limits import Limits, RequestError
from t2t_vqem.server.metrics import Metrics
from tests.conftest import wait_until

LIMITS = Limits(
    body_bytes=1000,
    header_bytes=2000,
    connections=20,
    request_seconds=0.5,
    body_seconds=0.5,
    idle_seconds=0.5,
)


class Endpoints:
    """A few addresses, and what became of their requests."""

    def __init__(self):
        self.metrics = Metrics()
        self.cancelled = threading.Event()

    def app(self, limits=LIMITS, **settings):
        routes = [
            Route("/v1/size", self.size, methods=["POST"]),
            Route("/v1/slow", self.slow),
            Route("/v1/refuse", self.refuse),
            Route("/fail", self.fail),
            Route("/metrics", self.refuse),
        ]
        return Guard(Router(routes), limits, self.metrics, **settings)

    async def size(self, request: Request):
        return PlainTextResponse(str(len(await request.body())))

    async def slow(self, request: Request):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def refuse(self, request: Request):
        raise RequestError(422, "No such thing.", {"X-Why": "not"})

    async def fail(self, request: Request):
        raise ValueError("a secret")


@pytest.fixture
def endpoints():
    return Endpoints()


@pytest.fixture
def client(run_app, endpoints):
    port = run_app(endpoints.app(), LIMITS)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client


def check_error(response, status, message):
    assert response.status_code == status
    assert message in response.json()["error"]


@pytest.mark.parametrize("path", ["/v1/refuse", "/nothing", "/fail"])
def test_every_answer_has_the_strict_headers(client, path):
    response = client.get(path)
    for name, value in HEADERS:
        assert response.headers[name] == value
    policy = response.headers["content-security-policy"]
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    assert "server" not in response.headers


def test_errors_are_sentences_in_json(client, caplog):
    response = client.get("/v1/refuse")
    check_error(response, 422, "No such thing.")
    assert response.headers["x-why"] == "not"
    check_error(client.get("/nothing"), 404, "There is nothing at this address")
    check_error(client.get("/v1/size"), 405, "This address accepts only POST.")
    with caplog.at_level(logging.ERROR):
        check_error(client.get("/fail"), 500, "The server failed at")
    assert "ValueError at" in caplog.text
    assert "secret" not in caplog.text


def test_bodies_are_bounded(client):
    assert client.post("/v1/size", content=b"x" * 1000).text == "1000"
    check_error(
        client.post("/v1/size", content=b"x" * 1001), 413, "too large: expected at most 1000 bytes"
    )
    chunks = (b"x" * 300 for _ in range(4))
    check_error(
        client.post("/v1/size", content=chunks), 413, "too large: expected at most 1000 bytes"
    )
    assert client.post("/v1/size", content=b"x").text == "1"


def test_a_client_that_asks_first_sends_nothing(run_app, endpoints, exchange):
    port = run_app(endpoints.app(), LIMITS)
    head = b"POST /v1/size HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: "
    assert exchange(port, head + b"9999\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    end = b"\r\nConnection: close\r\n\r\n"
    answer = exchange(port, head + b"2" + end, b"ab", pause=0.1)
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert answer.endswith(b"\r\n\r\n2")


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([b"POST /v1/size HTTP/1.1\r\nHost: a\r\n", *[b"A: b\r\n"] * 4], 408),
        ([b"POST /v1/size HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n", *[b"x"] * 4], 408),
        ([b"GET /v1/refuse HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 400], 431),
        ([b"GET /" + b"v" * 5000], 431),
        ([b"\x16\x03\x01\x02\x00\x01\x00"], 400),
        ([b"GET /v1/refuse HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"], 400),
        ([b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"], 400),
        ([b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"], 400),
        ([], 408),
    ],
    ids=["slow head", "slow body", "many headers", "long path", "TLS", "negative length",
         "two lengths", "CONNECT", "nothing"],
)  # fmt: skip
def test_hostile_requests(run_app, endpoints, exchange, parts, status):
    port = run_app(endpoints.app(), LIMITS)
    begin = time.monotonic()
    answer = exchange(port, *parts, pause=0.05 if len(parts) > 1 else 0.0)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:80]
    assert b"content-security-policy: " in answer.lower()
    assert time.monotonic() - begin < 60  # of a machine with much else to do


def test_idle_connections_are_closed(run_app, endpoints, exchange):
    port = run_app(endpoints.app(), LIMITS)
    begin = time.monotonic()
    answer = exchange(port, b"GET /v1/refuse HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert time.monotonic() - begin < 60  # of a machine with much else to do


def test_half_closed_connections_end(run_app, endpoints, exchange):
    port = run_app(endpoints.app(), LIMITS)
    head = b"POST /v1/size HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"
    begin = time.monotonic()
    assert exchange(port, head, half_close=True) in (b"",)
    assert time.monotonic() - begin < 60  # of a machine with much else to do


def test_pipelined_requests_are_answered_in_order(run_app, endpoints, exchange):
    port = run_app(endpoints.app(), LIMITS)
    request = b"POST /v1/size HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
    answer = exchange(port, b"".join(request % (n, b"x" * n) for n in (3, 1, 2)))
    assert [part.rsplit(b"\n")[-1] for part in answer.split(b"HTTP/1.1 200")[1:]] == [
        b"3",
        b"1",
        b"2",
    ]


def test_a_request_is_bounded_in_time(client, endpoints):
    response = client.get("/v1/slow")
    check_error(response, 503, "longer than 0.5 seconds")
    assert response.headers["retry-after"]
    assert endpoints.cancelled.is_set()


def test_what_a_client_that_has_gone_asked_for_is_cancelled(run_app, endpoints):
    limits = dataclasses.replace(LIMITS, request_seconds=60.0)
    port = run_app(endpoints.app(limits), limits)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"http://127.0.0.1:{port}/v1/slow", timeout=0.3)
    assert endpoints.cancelled.wait(300)
    # The only request there was.
    wait_until(lambda: 'endpoint="slow",status="499"' in endpoints.metrics.text(), "its metric")


def test_a_token_is_asked_for(run_app, endpoints):
    port = run_app(endpoints.app(token="right"), LIMITS)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic right"}):
            for path in ("/v1/refuse", "/metrics"):
                response = client.get(path, headers=headers)
                check_error(response, 401, "Authorization: Bearer TOKEN")
                assert response.headers["www-authenticate"] == "Bearer"
        assert (
            client.get("/v1/refuse", headers={"Authorization": "Bearer right"}).status_code == 422
        )
        assert client.get("/nothing").status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 422),
        ({"Sec-Fetch-Site": "same-origin"}, 422),
        ({"Sec-Fetch-Site": "none"}, 422),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_of_other_origins_are_refused(client, headers, status):
    assert client.get("/v1/refuse", headers=headers).status_code == status


def test_the_own_page_may_ask(client):
    origin = str(client.base_url).rstrip("/")
    assert client.get("/v1/refuse", headers={"Origin": origin}).status_code == 422


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 422), ("127.0.0.1:99", 422), ("[::1]:80", 422), ("example.org", 421),
     ("localhost.example.org", 421), ("[", 421), ("", 421)],
)  # fmt: skip
def test_only_named_hosts_are_served(run_app, endpoints, exchange, host, status):
    hosts = ("localhost", "127.0.0.1", "::1")
    port = run_app(endpoints.app(hosts=hosts), LIMITS)
    head = f"GET /v1/refuse HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert exchange(port, head.encode()).startswith(f"HTTP/1.1 {status} ".encode())


def test_too_many_connections_get_an_answer(run_app, endpoints):
    limits = dataclasses.replace(LIMITS, connections=3, idle_seconds=30.0, body_seconds=30.0)
    port = run_app(endpoints.app(limits), limits)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        statuses = []
        clients = []
        for _ in range(5):
            clients.append(httpx.Client(base_url=f"http://127.0.0.1:{port}"))
            statuses.append(clients[-1].get("/v1/refuse").status_code)
        assert statuses == [422, 422, 503, 503, 503]
        for other in clients:
            other.close()
        wait_until(lambda: client.get("/v1/refuse").status_code == 422, "a free connection")


def test_requests_are_counted(client, endpoints):
    client.get("/v1/refuse")
    client.get("/nothing")
    text = endpoints.metrics.text()
    assert 't2t_requests_total{endpoint="refuse",status="422"} 1' in text
    assert 't2t_requests_total{endpoint="none",status="404"} 1' in text
    assert 't2t_request_seconds_count{endpoint="refuse"} 1' in text
