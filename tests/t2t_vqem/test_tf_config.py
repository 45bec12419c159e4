import json
import re

import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.tf_config import Workers, complete_addresses, read_workers, tf_configs


def test_each_line_is_read_back_as_its_worker(monkeypatch):
    addresses = complete_addresses(["a.example.org", "b:77", "[::1]:78", "10.0.0.1"], 5000)
    assert addresses == ["a.example.org:5000", "b:77", "[::1]:78", "10.0.0.1:5000"]
    for index, line in enumerate(tf_configs(addresses)):
        assert "'" not in line and "\n" not in line  # a shell can quote it
        monkeypatch.setenv("TF_CONFIG", line)
        assert read_workers() == Workers(tuple(addresses), index)
    assert str(read_workers()) == "worker 3 of 4, 10.0.0.1:5000"


def test_a_chief_comes_first(monkeypatch):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    for task, index in ((("chief", 0), 0), (("worker", 0), 1), (("worker", 1), 2)):
        value = {"cluster": cluster, "task": dict(zip(("type", "index"), task, strict=True))}
        monkeypatch.setenv("TF_CONFIG", json.dumps(value))
        assert read_workers() == Workers(("a:1", "b:1", "c:1"), index)


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ([], "no worker given"),
        (["a", "b:1", "a:2222"], "the worker a:2222 occurs 2 times.*its own port"),
        (["a:0"], "worker 'a:0': port 0, expected 1 to 65535"),
        (["a:65536"], "port 65536"),
        (["a:b"], "worker 'a:b': expected host or host:port"),
        (["a", ""], "worker '': expected host or host:port"),
        (["a b"], "expected host or host:port"),
        (["::1"], "expected host or host:port"),
    ],
)
def test_invalid_workers_are_errors(workers, message):
    with pytest.raises(UsageError, match=message):
        complete_addresses(workers)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "TF_CONFIG is not set. .*t2t-make-tf-configs prints its value"),
        ("", "TF_CONFIG is not set"),
        ("{", "TF_CONFIG cannot be read: JSONDecodeError"),
        ("[]", "TF_CONFIG cannot be read: TypeError"),
        ('{"cluster": {"worker": ["a:1"]}}', "KeyError..task"),
        ('{"cluster": {}, "task": {"type": "worker", "index": 0}}', "KeyError..worker"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "makes this process worker 1 of",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
            "makes this process worker -1 of",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
            "makes this process evaluator 0 .*training has no other roles",
        ),
        (
            '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
            "a:1 occurs 2 times",
        ),
    ],
)
def test_invalid_tf_config_is_an_error(value, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if value is not None:
        monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(UsageError) as caught:
        read_workers()
    assert re.search(message, str(caught.value))
