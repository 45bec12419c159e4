"""Sends thousands of malformed requests to a running t2t-server and checks its answers.

    python benchmarks/server_fuzz.py --models=exported/nat,exported/vqvae --requests=20000

The requests have bytes that are not HTTP, invalid JSON, values of wrong types and sizes, wrong
headers, bodies that stop or never arrive, half-closed connections, and invalid images. Every answer
must be one that openapi.json documents and must arrive within the time limit, the process must keep
running, its memory must stay below the limit, and valid requests in between must get correct
answers.
"""

from __future__ import annotations

import argparse
import base64
import functools
import io
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

SECONDS = 2.0  # the server's limit for the headers and the body of a request
REQUEST_SECONDS = 10.0
SLACK = 20.0  # a busy machine may take longer to answer
_STATIC = pathlib.Path(__file__).resolve().parents[1] / "t2t_vqem" / "server" / "static"
PATHS = (
    *("/v1/translate", "/v1/score", "/v1/images/sample", "/v1/images/encode", "/v1/images/decode"),
    *("/v1/models/x:predict", "/v1/models", "/v1/models/x/codes", "/healthz", "/", "/nothing"),
)
_WORDS = ("one", "two", "", " ", "\u2581", "\x00", "\U0001f600", "e\u0301" * 50, "a" * 20_000)
_NAMES = ("text", "model", "codes", "images", "instances", "inputs", "source", "target", "num", "x")


def statuses() -> set[int]:
    """Returns the statuses that openapi.json documents."""
    paths = json.loads((_STATIC / "openapi.json").read_text("utf-8"))["paths"]
    return {
        int(status)
        for item in paths.values()
        for method in ("get", "post")
        for status in item.get(method, {}).get("responses", {})
    }


class Server:
    """t2t-server in a process of its own, with short time limits."""

    def __init__(self, models: str, *flags: str):
        """Starts it and waits until it listens."""
        command = [sys.executable, "-m", "t2t_vqem.bin.t2t_server", f"--models={models}"]
        bounds = [f"--body_seconds={SECONDS}", f"--request_seconds={REQUEST_SECONDS}"]
        self.process = subprocess.Popen(
            [*command, "--port=0", *bounds, f"--idle_seconds={SECONDS}", *flags],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                break
        else:
            raise RuntimeError(f"the server ended with status {self.process.wait()}")
        threading.Thread(target=self._read_log, daemon=True).start()

    def _read_log(self) -> None:
        self.log.extend(self.process.stderr)

    def memory(self) -> float:
        """Resident memory, MiB."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self) -> int:
        """Ends it; returns its status."""
        self.process.terminate()
        return self.process.wait(60)


def exchange(port: int, parts: list[bytes], pause: float, half_close: bool) -> bytes:
    """Sends parts, with a pause after each; returns all bytes received."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), REQUEST_SECONDS + SLACK) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                if pause:
                    time.sleep(pause)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(1 << 16):
                received += more
        except (ConnectionResetError, BrokenPipeError):
            pass
    return received


class Fuzzer:
    """Makes requests; each is a list of parts to send, a pause and whether to half close."""

    def __init__(self, seed: int, names: list[str]):
        self._rng = random.Random(seed)
        self._models = [*names, "x", ""]
        self._makers: tuple[Callable[[], tuple[list[bytes], float, bool]], ...] = (
            *[self._json] * 6,
            *[self._almost] * 6,
            *(self._bytes, self._head, self._broken_json, self._half, self._image, self._image),
            *(self._chunks, self._lengths),
        )

    def make(self) -> tuple[list[bytes], float, bool]:
        """Returns a request."""
        if self._rng.random() < 0.004:  # takes the time limit
            return self._slow()
        return self._rng.choice(self._makers)()

    def _request(self, path: str, body: bytes, *headers: bytes, method: bytes = b"POST") -> bytes:
        head = [method + b" " + path.encode() + b" HTTP/1.1", b"Host: localhost"]
        head += [b"Connection: close", b"Content-Length: %d" % len(body), *headers]
        return b"\r\n".join(head) + b"\r\n\r\n" + body

    def _value(self, depth: int = 0):
        rng = self._rng
        leaves = (None, True, -1, 0, 1, 3, 10**20, 1.5, 1e308, rng.choice(_WORDS), "one two")
        if depth > 3 or rng.random() < 0.6:
            return rng.choice(leaves)
        items = [self._value(depth + 1) for _ in range(rng.choice((0, 1, 2, 3, 40)))]
        if rng.random() < 0.5:
            return items
        return {rng.choice(_NAMES): item for item in items}

    def _json(self):
        fields = {name: self._value() for name in self._rng.sample(_NAMES, self._rng.randint(0, 5))}
        body = json.dumps(fields, ensure_ascii=self._rng.random() < 0.5).encode()
        return [self._request(self._rng.choice(PATHS), body)], 0.0, False

    def _almost(self):
        """A valid request, except for one field that may be invalid."""
        rng = self._rng
        path, fields = rng.choice(
            (
                ("/v1/translate", {"text": "one two"}),
                ("/v1/translate", {"text": ["one", "two"], "codes": [[1], [2, 3]]}),
                ("/v1/score", {"source": "one", "target": "eins"}),
                ("/v1/images/sample", {"num": 2, "seed": 1}),
                ("/v1/images/decode", {"codes": [[0] * 32]}),
            )
        )
        fields = {**fields, "model": rng.choice(self._models)}
        name = rng.choice([*fields, "alpha", "temperature", "top_k", "seed", "extra_length"])
        fields[name] = self._value()
        return [self._request(path, json.dumps(fields).encode())], 0.0, False

    def _bytes(self):
        return [self._rng.randbytes(self._rng.choice((1, 30, 3000))) + b"\r\n\r\n"], 0.0, True

    def _head(self):
        rng = self._rng
        junk = rng.choice((b"A" * 40_000, b"\x00", b"\xff\xfe", b"a: b\r\n" * 3000, b"", b"%00"))
        head = self._request(rng.choice(PATHS), b"{}", b"X: " + junk, method=rng.choice(_METHODS))
        return (
            [head.replace(b"localhost", rng.choice((b"localhost", b"evil.example", junk)))],
            0,
            True,
        )

    def _broken_json(self):
        body = bytearray(json.dumps({"text": ["one"] * 3, "model": self._models[0]}).encode())
        for _ in range(self._rng.randint(1, 4)):
            body[self._rng.randrange(len(body))] = self._rng.randrange(256)
        nested = self._rng.choice((b"", b"[" * 100_000, b'{"a":' * 20_000, b"9" * 10_000))
        return [self._request(self._rng.choice(PATHS), bytes(nested + body))], 0.0, False

    def _half(self):
        request = self._request("/v1/translate", b'{"text": "one"}')
        return [request[: self._rng.randrange(1, len(request))]], 0.0, True

    def _slow(self):
        request = self._request("/v1/translate", b'{"text": "one"}' + b" " * 40)
        cut = self._rng.randrange(1, len(request))
        return [request[:cut], *(request[cut + i : cut + i + 1] for i in range(4))], 0.3, False

    def _image(self):
        rng = self._rng
        size = rng.choice(((8, 8), (300, 200), (1, 5000), (6000, 6000)))
        mode, kind = rng.choice(("L", "RGB", "RGBA", "1")), rng.choice(("PNG", "GIF", "BMP"))
        file = bytearray(_picture("1" if size[0] > 1000 else mode, size, kind))
        for _ in range(rng.choice((0, 1, 5))):
            file[rng.randrange(len(file))] = rng.randrange(256)
        content = bytes(file[: rng.choice((len(file), len(file) // 2, 20, 0))])
        images = [base64.b64encode(content).decode()] * rng.choice((1, 2, 100))
        body = json.dumps({"images": images, "model": rng.choice(self._models)}).encode()
        return [self._request("/v1/images/encode", body)], 0.0, False

    def _chunks(self):
        sizes = self._rng.choice(((b"5", 5), (b"FFFFFFFFFFFFFFFF", 5), (b"-1", 1), (b"zz", 2)))
        head = b"POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        body = sizes[0] + b"\r\n" + b"x" * sizes[1] + b"\r\n0\r\n\r\n"
        return [head + b"Connection: close\r\n\r\n" + body], 0.0, True

    def _lengths(self):
        length = self._rng.choice((b"-1", b"99999999999999999999", b"5, 6", b"0x5", b"99999999"))
        head = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        return [head + length + b"\r\n\r\n" + b"x" * 50], 0.0, True


_METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"BREW", b"HEAD")


@functools.cache
def _picture(mode: str, size: tuple[int, int], kind: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


def answers(received: bytes) -> list[int]:
    """Returns the statuses of the answers that came over a connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def fuzz(models: str, num: int, *, seed: int = 0, threads: int = 8, memory: float = 600.0) -> dict:
    """Starts a server and sends malformed requests to it.

    Args:
        models: value of t2t-server --models.
        num: number of requests.
        seed: seed of the requests.
        threads: number of simultaneous connections.
        memory: limit of the server's memory at the end, in MiB.

    Returns:
        The number of answers of each status, the memory before and after, the slowest answer.

    Raises:
        AssertionError: a promise was broken.
    """
    server = Server(models)
    documented, counts = statuses() | {100}, Counter()
    names = [pathlib.Path(folder).name for folder in models.split(",")]
    fuzzer, lock, slowest = Fuzzer(seed, names), threading.Lock(), [0.0]
    right = Fuzzer(0, names)._request("/v1/models", b"", method=b"GET")
    before = server.memory()

    def one(number: int) -> None:
        with lock:
            request = fuzzer.make() if number % 50 else ([right], 0.0, False)
        begin = time.monotonic()
        found = answers(exchange(server.port, *request))
        took = time.monotonic() - begin
        assert set(found) <= documented, f"{found} to {request[0][0][:200]!r}"
        assert number % 50 or found == [200], f"{found} to a right request"
        with lock:
            counts.update(found or ["closed without an answer"])
            slowest[0] = max(slowest[0], took)

    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(num)))
        after = server.memory()
        assert server.process.poll() is None, "the server died"
    finally:
        status = server.stop()
    assert status == 0, f"status {status}"
    assert slowest[0] < REQUEST_SECONDS + SLACK, f"an answer took {slowest[0]:.1f} s"
    assert after < memory, f"{after:.0f} MiB at the end, at most {memory:.0f}"
    faults = [line for line in server.log if "Traceback" in line or "answered with 500" in line]
    assert not faults and not counts[500], faults
    return {
        "requests": num,
        "answers": {str(status): counts[status] for status in sorted(counts, key=str)},
        "memory_mib": [round(before), round(after)],
        "slowest_seconds": round(slowest[0], 2),
    }


def main() -> None:
    """Prints the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", required=True, help="of t2t-server")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=8)
    arguments = parser.parse_args()
    found = fuzz(
        arguments.models, arguments.requests, seed=arguments.seed, threads=arguments.threads
    )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
