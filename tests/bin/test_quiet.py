"""A healthy start says nothing of TensorFlow's insides, and an error still shows."""

import os
import re
import subprocess
import sys

import pytest

from t2t_vqem.bin import _quiet

LOGGED = re.compile(r"^([IWEF]\d{4} |WARNING: All log)|InitializeLog|port\.cc|cuda_platform", re.M)


def python(code, **environment):
    """What a program prints, and its status."""
    kept = {name: value for name, value in os.environ.items() if name != _quiet.LEVEL}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**kept, **environment}
    )


HIDDEN = "import os\nfrom t2t_vqem.bin._quiet import harmless_lines_hidden\n"
HARMLESS = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795833488.353926   10722 port.cc:153] oneDNN custom operations are on.\n"
    "W0000 00:00:1795833488.353926   10722 x.cc:1] computation placer already registered\n"
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with\n"
    "E0000 00:00:1795833494.667734   10722 cuda_platform.cc:52] failed call to cuInit: INTERNAL: "
    "CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)\n"
    "E0000 00:00:1795847793.066799   18734 util.cc:131] oneDNN supports DT_INT64 only on platforms "
    "with AVX-512. Falling back to the default Eigen-based implementation if present.\n"
    "normalizer.cc(51) LOG(INFO) precompiled_charsmap is empty. use identity normalization.\n"
)
ERRORS = (
    "E0000 00:00:1795833494.667734   10722 cuda_platform.cc:52] failed call to cuInit: INTERNAL: "
    "CUDA error: Failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH\n"
    "E0000 00:00:1795833494.667734   10722 x.cc:1] something else\n"
    "normalizer.cc(51) LOG(ERROR) something else\n"
    "a warning of Python\n"
    "a line without an end"
)


def test_harmless_lines_are_dropped_and_others_passed_on():
    result = python(
        f"{HIDDEN}"
        f"with harmless_lines_hidden():\n    os.write(2, {HARMLESS.encode()} + {ERRORS.encode()})\n"
        f"os.write(2, b'\\n' + {HARMLESS.encode()})\n"
    )
    assert result.stderr == f"{ERRORS}\n{HARMLESS}"


def test_the_last_words_of_an_aborted_process_are_passed_on():
    result = python(
        f"{HIDDEN}"
        "with harmless_lines_hidden():\n"
        "    os.write(2, b'F0000 00:00:1 2 x.cc:1] Check failed: no such instruction\\n')\n"
        "    os.abort()\n"
    )
    assert result.returncode < 0
    assert "Check failed: no such instruction" in result.stderr


def test_an_error_in_the_block_gives_standard_error_back():
    result = python(f"{HIDDEN}with harmless_lines_hidden():\n    raise KeyError('seen')\n")
    assert "KeyError: 'seen'" in result.stderr


def test_without_standard_error_nothing_breaks():
    result = python(
        f"{HIDDEN}os.close(2)\nwith harmless_lines_hidden():\n    print('done', flush=True)\n"
    )
    assert result.stdout == "done\n"


START = "import sys\nfrom t2t_vqem.bin import _quiet\n_quiet.start()\n"


@pytest.mark.slow
def test_the_import_of_tensorflow_and_its_first_operation_are_quiet():
    compute = f"{START}import importlib.util\nassert importlib.util.find_spec('tensorflow')\n"
    compute += "import keras, tensorflow as tf\nprint(tf.constant(1) + 1, file=sys.stderr)"
    result = python(compute)
    assert result.returncode == 0, result.stderr
    assert not LOGGED.search(result.stderr)
    assert "tf.Tensor(2" in result.stderr
    # The user who asks for more gets it.
    assert LOGGED.search(python(compute, **{_quiet.LEVEL: "0"}).stderr)


@pytest.mark.slow
def test_a_fork_of_a_process_that_has_imported_it_is_quiet():
    result = python(
        "import os\nfrom t2t_vqem.bin import _preload, _quiet\nimport tensorflow as tf\n"
        "if not os.fork():\n    _quiet.start()\n    print(tf.constant(1) + 1, flush=True)\n"
        "    os._exit(0)\n"
        "assert os.wait()[1] == 0\n"
    )
    assert result.returncode == 0, result.stderr
    assert "tf.Tensor(2" in result.stdout
    assert not LOGGED.search(result.stderr)


def test_help_of_every_command_imports_nothing_heavy():
    """What takes long to import would keep --help waiting."""
    heavy = ("tensorflow", "keras", "sacrebleu", "sentencepiece", "starlette", "ai_edge_litert")
    folder = os.path.dirname(_quiet.__file__)
    commands = sorted(name[:-3] for name in os.listdir(folder) if name.startswith("t2t_"))
    assert "t2t_trainer" in commands
    result = python(
        "import contextlib, importlib, sys\n"
        f"for name in {commands}:\n"
        "    command = importlib.import_module(f't2t_vqem.bin.{name}')\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        command.entry_point([name, '--help'])\n"
        f"    found = [module for module in {heavy} if module in sys.modules]\n"
        "    assert not found, (name, found)\n"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Flags of t2t-") == len(commands)


@pytest.mark.parametrize("command", ["t2t_trainer", "t2t_datagen"])
@pytest.mark.parametrize("flag", ["--registry_help", "--registry_help=transformer_base"])
def test_registry_help_imports_no_tensorflow(command, flag):
    result = python(
        "import contextlib, sys\n"
        f"from t2t_vqem.bin import {command}\n"
        "with contextlib.suppress(SystemExit):\n"
        f"    {command}.entry_point(['{command}', '{flag}'])\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    assert result.returncode == 0, result.stderr
    assert "transformer_base" in result.stdout
