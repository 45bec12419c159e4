"""Distilled translation: for each text problem, a problem with a teacher's translations."""

from t2t_vqem.distilled_problem import distilled
from t2t_vqem.problems.cldr import TranslateEndeCldr
from t2t_vqem.problems.translate import (
    TranslateEndeMulti30k,
    TranslateEndeWmt14,
    TranslateText,
    TranslateTfds,
)
from t2t_vqem.registry import problems

for _base in (
    TranslateEndeMulti30k,
    TranslateEndeWmt14,
    TranslateText,
    TranslateTfds,
    TranslateEndeCldr,
):
    problems.register()(distilled(_base))
