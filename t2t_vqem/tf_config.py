"""TF_CONFIG, the environment variable that tells each process of a run who the others are.

It is TensorFlow's own: JSON with the addresses of all workers, the same for all, and the place of
this one among them. Worker 0 is the chief: it alone writes to the output directory.
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
_REMEDY = "t2t-make-tf-configs prints it for a list of hosts"


class Workers(NamedTuple):
    """The processes of a run as one of them sees them."""

    addresses: tuple[str, ...]  # host:port, the chief's first
    index: int  # of this process

    def __str__(self) -> str:
        return f"worker {self.index} of {len(self.addresses)}, {self.addresses[self.index]}"


def complete_addresses(workers: Sequence[str], port: int = DEFAULT_PORT) -> list[str]:
    """Returns host:port for each worker.

    Args:
        workers: "host" or "host:port"; an IPv6 address stands in brackets.
        port: of those that name none.

    Raises:
        UsageError: no worker, one that is no address, or one that occurs twice.
    """
    if not workers:
        raise UsageError("there is no worker: expected host:port,host:port")
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
                f"Workers on one host need a port each"
            )
    return addresses


def tf_configs(addresses: Sequence[str]) -> list[str]:
    """Returns the value of TF_CONFIG for each worker: one line of JSON without an apostrophe."""
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
    """Returns what TF_CONFIG says.

    Raises:
        UsageError: it is not set, or does not say who the workers are and which this one is.
    """
    text = os.environ.get(TF_CONFIG)
    if not text:
        raise UsageError(f"{TF_CONFIG} is not set, which names the workers: {_REMEDY}")
    try:
        value = json.loads(text)
        cluster, kind, index = value["cluster"], value["task"]["type"], int(value["task"]["index"])
        addresses = [*cluster.get("chief", []), *cluster["worker"]]
        place = index if kind == "chief" else index + len(cluster.get("chief", []))
        if any(isinstance(value, str) for value in cluster.values()):
            raise TypeError("addresses are not in a list")
        if not all(isinstance(address, str) for address in addresses):
            raise TypeError("an address is no text")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{TF_CONFIG} cannot be read: {error!r} in {text}. Expected JSON like "
            f'{{"cluster":{{"worker":[...]}},"task":{{"type":"worker","index":0}}}}: {_REMEDY}'
        ) from error
    if kind not in ("chief", "worker") or not 0 <= index < len(cluster.get(kind, [])):
        raise UsageError(
            f"{TF_CONFIG} makes this process {kind} {index} of {cluster}: expected one of the "
            f"workers, which are all that training needs. {_REMEDY}"
        )
    return Workers(tuple(complete_addresses(addresses)), place)
