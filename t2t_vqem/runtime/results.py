"""The results of translation and scoring, the same for all engines."""

from __future__ import annotations

from typing import NamedTuple


class Token(NamedTuple):
    """A token of a translation."""

    id: int
    piece: str  # in the spelling of the vocabulary: a space is U+2581
    log_prob: float  # nats
    latent: int = -1  # index into the translation's codes; -1 for none


class Hypothesis(NamedTuple):
    """The translation of one line."""

    text: str  # always one line
    score: float  # the score of the search, in nats; 0 for a blank line
    cut: bool = False  # whether the length limit ended it
    codes: tuple[int, ...] = ()  # the latents that it was decoded from, from a latent model
    num_tokens: int = 0  # including EOS
    num_repeats: int = 0  # number of removed tokens that repeated the token before them
    others: tuple[Hypothesis, ...] = ()  # the other hypotheses, best first
    tokens: tuple[Token, ...] = ()  # without EOS; only from an exported model
    raw_tokens: tuple[Token, ...] = ()  # the tokens before removals; only from latent models
    alignment: tuple[tuple[int, int], ...] = ()  # (source word, word), if it was asked for


class PairScore(NamedTuple):
    """The log-probability of a given translation."""

    score: float  # nats, of all tokens, and from a latent model also of the codes and their EOS
    tokens: tuple[Token, ...]  # including EOS
    codes: tuple[int, ...] = ()  # the latents of the translation
    code_log_probs: tuple[float, ...] = ()  # of each code and of their EOS, in nats
