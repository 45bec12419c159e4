"""Registries: look-up, errors, lazy import of the home package, plug-ins."""

import re
import subprocess
import sys
import textwrap

import pytest

from t2t_vqem import registry, registry_help
from t2t_vqem.constants import UsageError
from t2t_vqem.registry import Registry, RegistryError, load_plugins, snake_case


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Returns a function that writes a package and returns its name; removed afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name: str, **modules: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        for module, text in {"__init__": "", **modules}.items():
            (folder / f"{module}.py").write_text(textwrap.dedent(text))
        return name

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_registered_object_is_found_under_its_snake_case_name():
    things = Registry("thing", "json")

    @things.register()
    class TranslateEnDe:
        """Translates.

        More words.
        """

    assert things.get("translate_en_de") is TranslateEnDe
    assert things.names() == ["translate_en_de"]
    assert things.summary("translate_en_de") == "Translates."


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("VQVAE", "vqvae"),
        ("VQVAEModel", "vqvae_model"),
        ("TransformerNAT", "transformer_nat"),
        ("Multi30k", "multi30k"),
        ("already_snake", "already_snake"),
    ],
)
def test_snake_case(name, expected):
    assert snake_case(name) == expected


def test_a_suffix_of_class_names_is_left_out():
    things = Registry("thing", "json", suffix="HParams")

    @things.register()
    class TransformerNATHParams:
        pass

    assert things.names() == ["transformer_nat"]
    assert things.name_of(TransformerNATHParams) == "transformer_nat"
    with pytest.raises(RegistryError, match=r"int \(in builtins\) is not registered as a thing"):
        things.name_of(int)


def test_origin_is_the_line_of_the_decorator():
    things = Registry("thing", "json")
    line = sys._getframe().f_lineno + 2

    @things.register("here")
    def function():
        pass

    assert things.origin("here") == f"{__file__}:{line}"


def test_unknown_name_shows_nearest():
    things = Registry("thing", "json")
    things.register("transformer_base")(object)
    things.register("vqvae")(object)
    with pytest.raises(
        RegistryError, match=r"unknown thing 'transformer_bas'. Did you mean transformer_base\?"
    ):
        things.get("transformer_bas")
    with pytest.raises(RegistryError, match="Expected one of: transformer_base, vqvae"):
        things.get("zzz")


def test_duplicate_shows_both_places_and_keeps_the_first():
    things = Registry("thing", "json")
    things.register("x")(int)
    first = things.origin("x")
    with pytest.raises(RegistryError, match="thing 'x' is registered twice") as caught:
        things.register("x")(str)
    assert re.findall(rf"{re.escape(__file__)}:\d+", str(caught.value))[0] == first
    assert str(caught.value).count(__file__) == 2
    assert things.get("x") is int


@pytest.mark.parametrize("name", ["my-problem", "MyProblem", "", "2fast", "a/b", "ü"])
def test_names_are_in_snake_case(name):
    things = Registry("thing", "json")
    with pytest.raises(
        RegistryError, match=r"test_registry\.py:\d+: expected a name in snake_case"
    ):
        things.register(name)(int)


def test_home_is_imported_by_the_first_look_up_with_its_subpackages(package):
    home = package(
        "shelf",
        __init__="from t2t_vqem.registry import Registry\nthings = Registry('thing', 'shelf')",
        first="from shelf import things\n@things.register()\ndef one(): 'The first.'",
    )
    package_root = __import__(home)
    assert "shelf.first" not in sys.modules
    assert package_root.things.names() == ["one"]
    assert package_root.things.summary("one") == "The first."


def test_module_that_cannot_be_imported_breaks_itself_alone(package):
    package(
        "shelf2",
        __init__="from t2t_vqem.registry import Registry\nthings = Registry('thing', 'shelf2')",
        broken="import there_is_no_such_module",
        works="from shelf2 import things\n@things.register()\ndef one(): pass",
    )
    things = __import__("shelf2").things
    assert things.names() == ["one"]
    with pytest.raises(RegistryError, match="not available: shelf2.broken") as caught:
        things.get("two")
    assert "No module named 'there_is_no_such_module'" in str(caught.value)


def test_temporary_forgets_what_was_registered_inside_and_nothing_else(package):
    package(
        "shelf3",
        __init__="from t2t_vqem.registry import Registry\nthings = Registry('thing', 'shelf3')",
        works="from shelf3 import things\n@things.register()\ndef one(): pass",
    )
    things = __import__("shelf3").things
    with pytest.raises(RuntimeError, match="leaves"), things.temporary():
        things.register("two")(int)
        assert things.names() == ["one", "two"]
        raise RuntimeError("leaves")
    assert things.names() == ["one"]


@pytest.mark.parametrize("kind", [*registry_help.REGISTRIES, registry.models])
def test_every_home_imports_completely(kind):
    assert kind.failures() == {}


def test_every_model_is_registered_with_its_hyperparameters():
    assert registry.models.names() == registry.model_hparams.names()


def test_everything_registered_says_what_it_is():
    kinds = (*registry_help.REGISTRIES, registry.models)
    for kind in kinds:
        for name in kind.names():
            assert kind.summary(name), f"{kind.kind} {name} has no docstring"


def test_usr_dir_registers(tmp_path):
    folder = tmp_path / "my_usr_dir_of_tests"
    folder.mkdir()
    (folder / "__init__.py").write_text("from . import mine\n")
    (folder / "mine.py").write_text(
        "from t2t_vqem.registry import problems\n@problems.register()\nclass MyOwn: 'Mine.'\n"
    )
    with registry.problems.temporary():
        load_plugins(str(folder))
        load_plugins(f"{folder}/")  # nothing is registered twice
        assert registry.problems.summary("my_own") == "Mine."
        assert registry.problems.origin("my_own").startswith(str(folder / "mine.py"))


def test_usr_dir_that_python_finds_by_itself_registers(tmp_path, monkeypatch):
    folder = tmp_path / "my_usr_dir_on_the_path"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from t2t_vqem.registry import problems\n@problems.register()\nclass OnPath: 'Found.'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))  # as `python -m` in the parent folder does
    with registry.problems.temporary():
        load_plugins(str(folder))
        assert registry.problems.summary("on_path") == "Found."


def test_usr_dir_without_init_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"expected a folder with an __init__\.py"):
        load_plugins(str(tmp_path))


def test_usr_dir_named_like_another_module_is_refused(tmp_path):
    folder = tmp_path / "json"
    folder.mkdir()
    (folder / "__init__.py").touch()
    with pytest.raises(UsageError, match="another module is called 'json'"):
        load_plugins(str(folder))


def test_failing_usr_dir_shows_its_own_error_and_can_be_tried_again(tmp_path):
    folder = tmp_path / "my_failing_usr_dir"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('of the user')")
    with pytest.raises(RuntimeError, match="of the user"):
        load_plugins(str(folder))
    assert "my_failing_usr_dir" not in sys.modules


def _install(site, distribution: str, entry_points: str) -> None:
    """Writes what pip writes when it installs a distribution with entry points."""
    info = site / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[t2t_vqem.plugins]\n{entry_points}\n")


def test_entry_points_of_installed_packages_register(tmp_path):
    _install(tmp_path, "good_plugin", "good = good_plugin")
    (tmp_path / "good_plugin.py").write_text(
        "from t2t_vqem.registry import problems\n@problems.register()\nclass FromOutside: 'Out.'\n"
    )
    _install(tmp_path, "bad_plugin", "bad = bad_plugin")
    (tmp_path / "bad_plugin.py").write_text("import there_is_no_such_module\n")
    program = """
        from t2t_vqem import registry, registry_help
        registry.load_plugins()
        registry.load_plugins()
        print(registry.problems.summary("from_outside"))
        try:
            registry.problems.get("nothing_like_it")
        except registry.RegistryError as error:
            print(error)
    """
    # In a process of its own, because what a plug-in registers stays registered.
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert output[0] == "Out."
    assert "not available: plug-in bad = bad_plugin (ModuleNotFoundError" in "\n".join(output)
    assert "good_plugin" not in "\n".join(output[1:])
