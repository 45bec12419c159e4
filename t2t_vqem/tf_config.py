"""TF_CONFIG, TensorFlow's environment variable that describes the workers of a distributed run.

It holds JSON: the addresses of all workers, the same for every process, and the index of this
process. Worker 0 is the chief, the only worker that writes to the output directory.
"""

import json
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from t2t_vqem.constants import UsageError

TF_CONFIG = "TF_CONFIG"
DEFAULT_PORT = 2222
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>[0-9]+))?", re.ASCII)
_REMEDY = "t2t-make-tf-configs prints its value for a list of hosts"


class Workers(NamedTuple):
    """The workers of a run, and which of them this process is."""

    addresses: tuple[str, ...]  # host:port of each worker, the chief first
    index: int  # index of this process

    def __str__(self) -> str:
        return f"worker {self.index} of {len(self.addresses)}, {self.addresses[self.index]}"


def complete_addresses(workers: Sequence[str], port: int = DEFAULT_PORT) -> list[str]:
    """Returns host:port for each worker.

    Args:
        workers: "host" or "host:port"; IPv6 addresses in brackets.
        port: port of the workers given without one.

    Raises:
        UsageError: there is no worker, an invalid address, or a duplicate.
    """
    if not workers:
        raise UsageError("no worker given: expected host:port,host:port")
    addresses = []
    for worker in workers:
        match = _ADDRESS.fullmatch(worker.strip())
        if match is None:
            raise UsageError(f"worker {worker!r}: expected host or host:port")
        number = int(match["port"] or port)
        if not 0 < number < 2**16:
            raise UsageError(f"worker {worker!r}: port {number}, expected 1 to 65535")
        addresses.append(f"{match['host']}:{number}")
    for address in addresses:
        if addresses.count(address) > 1:
            raise UsageError(
                f"the worker {address} occurs {addresses.count(address)} times, expected once. "
                f"Give each worker on the same host its own port"
            )
    return addresses


def tf_configs(addresses: Sequence[str]) -> list[str]:
    """Returns the value of TF_CONFIG for each worker: one line of JSON without apostrophes."""
    return [
        json.dumps(
            {
                "cluster": {"worker": list(addresses)},
                "task": {"type": "worker", "index": index},
            },
            separators=(",", ":"),
        )
        for index in range(len(addresses))
    ]


def read_workers() -> Workers:
    """Reads TF_CONFIG.

    Raises:
        UsageError: it is not set, is not valid, or gives this process a role that training does not
            have.
    """
    text = os.environ.get(TF_CONFIG)
    if not text:
        raise UsageError(f"{TF_CONFIG} is not set. It must list the workers: {_REMEDY}")
    try:
        value = json.loads(text)
        cluster, kind, index = value["cluster"], value["task"]["type"], int(value["task"]["index"])
        addresses = [*cluster.get("chief", []), *cluster["worker"]]
        place = index if kind == "chief" else index + len(cluster.get("chief", []))
        if any(isinstance(value, str) for value in cluster.values()):
            raise TypeError("the addresses are not a list")
        if not all(isinstance(address, str) for address in addresses):
            raise TypeError("an address is not a string")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{TF_CONFIG} cannot be read: {error!r} in {text}. Expected JSON like "
            f'{{"cluster":{{"worker":[...]}},"task":{{"type":"worker","index":0}}}}: {_REMEDY}'
        ) from error
    if kind not in ("chief", "worker") or not 0 <= index < len(cluster.get(kind, [])):
        raise UsageError(
            f"{TF_CONFIG} makes this process {kind} {index} of {cluster}: expected one of the "
            f"workers, since training has no other roles. {_REMEDY}"
        )
    return Workers(tuple(complete_addresses(addresses)), place)
