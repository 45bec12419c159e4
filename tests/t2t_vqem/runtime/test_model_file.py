"""One function of a model file gives what the whole file gives."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from t2t_vqem.constants import UsageError
from t2t_vqem.runtime.model_file import only

IDS = np.array([[5, 9, 7, 1], [6, 8, 1, 0]], np.int32)
GIVEN = {
    "score": {"inputs": IDS, "targets": IDS[:, ::-1].copy() + 1},
    "decode_codes": {"inputs": IDS, "codes": np.array([[0, 3], [2, -1]], np.int32)},
}


@pytest.fixture(scope="module")
def content(stored_exports):
    return (stored_exports / "exact" / "model.tflite").read_bytes()


def run(content, signature):
    interpreter = Interpreter(model_content=content, num_threads=1)
    return interpreter.get_signature_runner(signature)(**GIVEN[signature])


def num_operators(content):
    model = schema.Model.GetRootAs(content)
    return [model.Subgraphs(i).OperatorsLength() for i in range(model.SubgraphsLength())]


@pytest.mark.parametrize("signature", GIVEN)
def test_the_function_is_the_same_and_the_others_are_nearly_gone(content, signature):
    alone = only(content, signature)
    assert len(alone) == len(content)
    before, after = num_operators(content), num_operators(alone)
    assert sum(after) < sum(before) / 2
    assert all(now in (then, min(then, 1)) for then, now in zip(before, after, strict=True))
    expected, found = run(content, signature), run(alone, signature)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_what_is_no_such_file_is_refused(content):
    with pytest.raises(UsageError, match="no 'encode', only .*'?translate"):
        only(content, "encode")
    for damaged in (b"", b"TFL3", content[: len(content) // 100]):
        with pytest.raises(UsageError, match="the model file is damaged"):
            only(damaged, "score")
