"""Names and numbers that every layer agrees on."""

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2  # exists because SentencePiece demands it; byte fallback never produces it
FILL_ID = UNK_ID  # so it is free for what fills up a group of tokens, see data/groups.py
FIRST_CODE = max(PAD_ID, EOS_ID) + 1  # where tokens are codes: code c is token FIRST_CODE + c

# Tokens that a translation may have beyond the longest source, in graphs of any length.
MAX_EXTRA_LENGTH = 256

INPUTS = "inputs"
TARGETS = "targets"

TRAIN = "train"
DEV = "dev"
TEST = "test"
SPLITS = (TRAIN, DEV, TEST)


class UsageError(ValueError):
    """The user's input cannot be used: a flag, a file, a name or a value.

    The commands print its message alone, without a traceback, and exit with status 2. The
    message says what was wrong, what was found, what was expected and what to do.
    """
