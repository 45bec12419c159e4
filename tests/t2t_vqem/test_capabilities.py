"""What models offer, what problems need, and that nobody finds it out in another way."""

import ast
import pathlib
import re

import pytest

from t2t_vqem import registry
from t2t_vqem.capabilities import (
    ImageModel,
    LatentTextModel,
    PairScoringModel,
    ScoringModel,
    TranslationModel,
    check_fits,
    offers,
)
from t2t_vqem.constants import UsageError
from t2t_vqem.problem import Problem

ROOT = pathlib.Path(__file__).resolve().parents[2]
OFFERED = {
    "transformer": {TranslationModel, ScoringModel, PairScoringModel},
    "transformer_nat": {TranslationModel, LatentTextModel, PairScoringModel},
    "vqvae": {ImageModel},
}


@pytest.mark.parametrize("model", registry.models.names())
def test_what_the_registered_models_offer(model):
    known = {ImageModel, LatentTextModel, PairScoringModel, ScoringModel, TranslationModel}
    assert {each for each in known if offers(model, each)} == OFFERED[model]


@pytest.mark.parametrize("model", OFFERED)
@pytest.mark.parametrize("problem", registry.problems.names())
def test_a_model_that_does_not_fit_is_an_error_that_names_both(problem, model):
    is_image = problem.startswith("image_")
    if is_image == (model == "vqvae"):
        check_fits(registry.problems.get(problem), model)
        return
    fitting = "vqvae" if is_image else "transformer, transformer_nat"
    message = f"model {model!r} does not fit the problem {problem!r}, .*Expected one of: {fitting}"
    with pytest.raises(UsageError, match=message):
        check_fits(registry.problems.get(problem), model)


def test_a_problem_that_needs_nothing_takes_any_model():
    class Anything(Problem):
        pass

    check_fits(Anything, "vqvae")
    assert not Anything.needs_a(ImageModel)


def test_a_problem_may_need_more():
    class ByLatents(registry.problems.get("translate_text")):
        needs = LatentTextModel

    assert ByLatents.needs_a(TranslationModel) and not ByLatents.needs_a(ImageModel)
    check_fits(ByLatents, "transformer_nat")
    with pytest.raises(UsageError, match="'transformer' .*discrete latents. .*: transformer_nat"):
        check_fits(ByLatents, "transformer")


def test_a_model_that_lacks_what_it_declares_cannot_be_made():
    from t2t_vqem.models.base import Model

    class Half(Model, ScoringModel):
        def encode(self, inputs):
            return inputs, inputs

    with pytest.raises(TypeError, match="abstract method '?score"):
        Half(None, name="half")


def guesses(source: str) -> list[str]:
    """Returns the places where code asks what a problem or a model is by other means."""
    found = []
    for node in ast.walk(ast.parse(source)):
        text = ast.unparse(node) if isinstance(node, (ast.Call, ast.Name, ast.Attribute)) else ""
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            kinds = ast.unparse(node.args[1])
            if re.search(r"Problem|Dataset", kinds) or re.search(
                r"\bproblem|\bdataset", ast.unparse(node.args[0])
            ):
                found.append(text)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr"):
            if re.search(r"model|problem|dataset|rescorer", ast.unparse(node.args[0])):
                found.append(text)
        elif text.endswith("runtime_checkable"):
            found.append(text)
    return found


PATHS = [
    path
    for folder in ("t2t_vqem/training", "t2t_vqem/inference", "t2t_vqem/export", "bin")
    for path in sorted((ROOT / folder).glob("*.py"))
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_capabilities_are_the_only_way_to_ask(path):
    assert guesses(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(problem, X)",
        "isinstance(x, t2t_vqem.text_problem.TextProblem)",
        "issubclass(registry.problems.get(name), (A, ImageProblem))",
        "hasattr(model, 'score')",
        "getattr(self._model, 'score', None)",
        "@runtime_checkable\nclass A(Protocol): pass",
        "@typing.runtime_checkable\nclass A(Protocol): pass",
    ],
)
def test_the_check_can_fail(source):
    assert guesses(source)
