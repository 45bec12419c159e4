"""What a translation is, whatever computed it."""

from __future__ import annotations

from typing import NamedTuple


class Token(NamedTuple):
    """A token of a translation."""

    id: int
    piece: str  # as the vocabulary writes it: a space is U+2581
    log_prob: float  # nats
    latent: int = -1  # index into the translation's codes; -1 where it is of none


class Hypothesis(NamedTuple):
    """The translation of one line."""

    text: str  # always one line
    score: float  # as the search scores it, in nats; 0 for a blank line
    cut: bool = False  # whether the limit of its length ended it
    codes: tuple[int, ...] = ()  # latents that it was decoded from, where the model has latents
    num_tokens: int = 0  # with EOS
    num_repeats: int = 0  # tokens that repeated the one before and were removed
    others: tuple[Hypothesis, ...] = ()  # up to `num_best`, best first
    tokens: tuple[Token, ...] = ()  # without EOS; by an exported model only
    raw_tokens: tuple[Token, ...] = ()  # the same before removals; latent models only


class PairScore(NamedTuple):
    """How probable a given translation is."""

    score: float  # nats: of the tokens, and in a latent model of the codes and their end too
    tokens: tuple[Token, ...]  # with EOS
    codes: tuple[int, ...] = ()  # latents of the translation
    code_log_probs: tuple[float, ...] = ()  # of each of them and of their end, nats
