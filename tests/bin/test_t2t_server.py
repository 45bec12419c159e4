"""The command: starts, says where, obeys SIGTERM, refuses what it cannot serve."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.conftest import wait_until

COMMAND = [sys.executable, "-m", "t2t_vqem.bin.t2t_server"]


@pytest.fixture
def start(stored_exports):
    """Returns a function that starts the command with flags: the process, and its address."""
    processes = []

    def started(*flags):
        models = ",".join(str(stored_exports / name) for name in ("beam", "latent"))
        process = subprocess.Popen(
            [*COMMAND, f"--models={models}", "--port=0", "--interpreters=1", *flags],
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                return process, found[0]
        raise AssertionError(f"status {process.wait()}")

    yield started
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def translate(address, text):
    request = urllib.request.Request(
        f"{address}v1/translate", json.dumps({"model": "beam", "text": text}).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["translations"]


def test_what_was_accepted_is_answered_after_sigterm(start):
    process, address = start()
    texts = [f"one two {number}" for number in range(200)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = [pool.submit(translate, address, [text] * 25) for text in texts[:8]]
        wait_until(
            lambda: "t2t_queue_rows" in metrics(address) and waiting(address),
            "waiting requests",
            process=process,
        )
        process.send_signal(signal.SIGTERM)
        for one in found:
            assert len(one.result()) == 25
    log = process.stderr.read()
    assert process.wait(120) == 0
    assert "all accepted requests are answered" in log
    assert "one two" not in log
    with pytest.raises(OSError, match="refused"):
        translate(address, "one")


def metrics(address):
    with urllib.request.urlopen(f"{address}metrics", timeout=120) as response:
        return response.read().decode()


def waiting(address):
    return int(re.search(r't2t_queue_rows\{model="beam"\} (\d+)', metrics(address))[1])


def test_an_idle_server_ends_at_once(start):
    process, _ = start()
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0
    assert time.monotonic() - begin < 60  # of a machine with much else to do


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--models is missing"),
        (["--models=none"], "none is not an exported model"),
        (["--models=a", "--max_lines=0"], "max_lines"),
        (["--models={beam}", "--port={taken}"], "Address already in use. Use an address"),
        (["--models={beam},{beam}"], "two folders have the name 'beam'"),
        (["--models={beam}", "--token_file=/none"], "--token_file=/none cannot be read"),
        (["--models={beam}", f"--token_file={os.devnull}"], "expected a token of ASCII"),
    ],
)
def test_wrong_flags(stored_exports, flags, message):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"beam": stored_exports / "beam", "taken": taken.getsockname()[1]}
        process = subprocess.run(
            [*COMMAND, *(flag.format(**values) for flag in flags)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert process.returncode == 2
    assert message in process.stderr


def test_tensorflow_is_not_imported(stored_exports):
    program = (
        "import sys\n"
        "from t2t_vqem.server import app, metrics, models, serving\n"
        "from t2t_vqem.server.limits import Limits\n"
        f"models.load_services([{str(stored_exports / 'images')!r}], Limits(), metrics.Metrics())\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    names = set(output.stdout.split())
    assert "ai_edge_litert" in names
    assert not names & {"tensorflow", "keras", "absl", "tqdm", "sacrebleu"}
