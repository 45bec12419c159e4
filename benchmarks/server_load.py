"""t2t-server under load: requests per second and latency, compared with CTranslate2.

    python benchmarks/server_load.py --models=exported/nat,exported/greedy --source=test.en \
        --teacher_dir=runs/teacher --seconds=600 --output=benchmarks/results/server_load.md

CTranslate2 runs in the same web framework. The systems alternate, with 1, 8 and 64 clients that
each send a sentence and wait for its answer. Every answer of t2t-server is compared with that of
the runtime. Then come --memory_requests sentences of random lengths, during which the memory must
stay constant, and --kills times kill -9 under load: until the server has restarted, clients may get
connection errors, but never a wrong answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import NamedTuple

import report

from t2t_vqem import runtime

CLIENTS = (1, 8, 64)
SECONDS = 60  # after which an answer counts as missing


class Server:
    """A server in a process of its own; the address is the first that it prints."""

    def __init__(self, *command: str):
        """Starts it and waits until it listens."""
        self.command = command
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in self.process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                return
        raise RuntimeError(f"{command}: status {self.process.wait()}")

    def memory(self) -> float:
        """Resident memory, MiB."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self, kill: bool = False) -> None:
        """Ends it."""
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(60)
        self.process.stdout.close()


def our_server(folder: str, port: int = 0) -> Server:
    """Serves an export by t2t-server."""
    flags = [f"--models={folder}", f"--port={port}"]
    return Server(sys.executable, "-m", "t2t_vqem.bin.t2t_server", *flags)


class Found(NamedTuple):
    """The results of clients."""

    times: list[float]  # seconds of each right answer
    wrong: int
    errors: Counter  # of connections, by name
    seconds: float

    def figures(self) -> list[str]:
        """Requests per second, and milliseconds: median and 99 %."""
        times = sorted(1000 * seconds for seconds in self.times)
        last = times[min(len(times) - 1, int(0.99 * len(times)))]
        return [
            f"{len(times) / self.seconds:.0f}", f"{statistics.median(times):.2f}", f"{last:.2f}"
        ]  # fmt: skip


async def _client(port: int, texts, stop: float, expected, seen: dict) -> None:
    """Sends texts over one connection, which is opened again when it breaks."""
    reader = writer = None
    for text in texts:
        if time.monotonic() > stop:
            break
        body = json.dumps({"text": text}).encode()
        head = b"POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        begin = time.perf_counter()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head % len(body) + body)
            answer = await asyncio.wait_for(_answer(reader), SECONDS)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            seen["errors"][type(error).__name__] += 1
            if writer is not None:
                writer.close()
            writer = None
            await asyncio.sleep(0.02)
            continue
        took = time.perf_counter() - begin
        found = json.loads(answer).get("translations", {}).get("text")
        if expected is not None and found != expected[text]:
            seen["wrong"] += 1
        else:
            seen["times"].append(took)
    if writer is not None:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return await reader.readexactly(int(length[1]))


def load(port, lines, clients, seconds, expected=None, limit=None, seed=0) -> Found:
    """Lets clients send lines at random for some seconds, or `limit` of them in all."""

    async def run() -> Found:
        seen = {"times": [], "wrong": 0, "errors": Counter()}
        begin = time.monotonic()
        tasks = []
        for client in range(clients):
            rng = random.Random(f"{seed} {client}")
            share = None if limit is None else limit // clients
            texts = _endless(rng, lines) if share is None else rng.choices(lines, k=share)
            tasks.append(_client(port, texts, begin + seconds, expected, seen))
        await asyncio.gather(*tasks)
        return Found(seen["times"], seen["wrong"], seen["errors"], time.monotonic() - begin)

    return asyncio.run(run())


def _endless(rng: random.Random, lines):
    while True:
        yield rng.choice(lines)


def alone(model, lines) -> float:
    """Median milliseconds of a sentence by the runtime in this process."""
    times = []
    for line in lines[:200]:
        begin = time.perf_counter()
        list(model.translate([line]))
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times)


def throughput(folders, peer, lines, expected, seconds) -> list[str]:
    """Measures all systems in turn; returns the rows of a table."""
    servers = {os.path.basename(folder): our_server(folder) for folder in folders}
    if peer:
        servers["CTranslate2 int8, greedy"] = Server(sys.executable, *peer)
    share = seconds / (len(CLIENTS) * len(servers))
    rows = ["| system | clients | requests/s | median ms | 99 % ms |", "|---|---|---|---|---|"]
    try:
        for clients in CLIENTS:
            for name, server in servers.items():
                load(server.port, lines, clients, min(2.0, share))  # warm
                found = load(server.port, lines, clients, share, expected.get(name))
                assert not found.wrong and not found.errors, f"{name}: {found.wrong} wrong"
                rows.append(f"| {name} | {clients} | {' | '.join(found.figures())} |")
    finally:
        for server in servers.values():
            server.stop()
    return rows


def memory(folder, lines, expected, requests) -> str:
    """Sends sentences of random lengths; returns the change of memory."""
    server = our_server(folder)
    seen = []
    try:
        for part in range(10):
            found = load(server.port, lines, 8, 1e9, expected, requests // 10, seed=part)
            assert not found.wrong and not found.errors, found
            seen.append(server.memory())
    finally:
        server.stop()
    change = 100 * (seen[-1] / seen[0] - 1)
    shown = ", ".join(f"{mib:.0f}" for mib in seen)
    return f"{requests} requests of random lengths: {shown} MiB after each tenth ({change:+.1f} %)"


def kills(folder, lines, expected, count) -> str:
    """Kills the server under load and restarts it; returns the clients' results."""
    server = our_server(folder)
    right, errors = 0, Counter()
    for number in range(count):
        killer = subprocess.Popen(["sh", "-c", f"sleep 1; kill -9 {server.process.pid}"])
        found = load(server.port, lines, 8, 3.0, expected, seed=number)
        killer.wait()
        server.stop(kill=True)
        server = our_server(folder, server.port)
        after = load(server.port, lines, 8, 1.0, expected, seed=number)
        assert not found.wrong and not after.wrong, "a wrong answer"
        assert after.times and not after.errors, after.errors
        right += len(found.times) + len(after.times)
        errors += found.errors
    server.stop()
    told = ", ".join(f"{name} {number}" for name, number in sorted(errors.items()))
    return f"{count} times kill -9: {right} right answers, 0 wrong, errors of connections: {told}"


def peer_command(teacher_dir: str, folder: str) -> list[str]:
    """Converts a transformer for CTranslate2; returns the command that serves it."""
    from decoding_speed import MAX_POSITIONS

    from t2t_vqem.export import ctranslate2_model
    from t2t_vqem.output_dir import OutputDir

    run = OutputDir(teacher_dir)
    model, vocabulary = run.build_model(), run.vocabulary()
    run.restore_for_inference(model)
    ctranslate2_model.write(model, vocabulary, MAX_POSITIONS, folder, "none")
    path = os.path.join(folder, "vocab.model")
    with open(path, "wb") as file:
        file.write(vocabulary.model)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "server_peer.py")
    converted = os.path.join(folder, ctranslate2_model.FOLDER)
    return [script, f"--model={converted}", f"--vocabulary={path}"]


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", required=True, help="exports, with commas; the first is ours")
    parser.add_argument("--source", required=True, help="file of sentences")
    parser.add_argument("--teacher_dir", help="run of a transformer, for CTranslate2")
    parser.add_argument("--seconds", type=float, default=600, help="of load in all")
    parser.add_argument("--memory_requests", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--output")
    arguments = parser.parse_args()
    folders = arguments.models.split(",")
    with open(arguments.source, encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file if line.strip()]
    rng = random.Random(0)
    words = " ".join(lines).split()
    anyhow = [" ".join(rng.choices(words, k=rng.randint(1, 20))) for _ in range(2000)]
    expected, costs = {}, []
    for folder in folders:
        model, name = runtime.load(folder, threads=1), os.path.basename(folder)
        texts = [*lines, *anyhow]
        found = model.translate(texts)
        expected[name] = {t: one.text for t, one in zip(texts, found, strict=True)}
        costs.append(f"{name}: {alone(model, lines):.2f} ms a sentence by the runtime alone")
    with tempfile.TemporaryDirectory() as folder:
        peer = peer_command(arguments.teacher_dir, folder) if arguments.teacher_dir else None
        rows = throughput(folders, peer, lines, expected, arguments.seconds)
    first = expected[os.path.basename(folders[0])]
    rest = [
        memory(folders[0], anyhow, first, arguments.memory_requests),
        kills(folders[0], lines, first, arguments.kills),
    ]
    header = report.header("t2t-server under load", ["ai-edge-litert", "starlette", "uvicorn"])
    report.write([*header, *rows, "", *(f"- {line}" for line in costs + rest)], arguments.output)


if __name__ == "__main__":
    main()
