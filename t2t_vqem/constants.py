"""Constants and the exception type that all layers share."""

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2  # required by SentencePiece, but never produced, because of byte fallback
FILL_ID = UNK_ID  # pads a group of tokens (see data/groups.py); UNK's id is free for this
FIRST_CODE = max(PAD_ID, EOS_ID) + 1  # in sequences of codes, code c has the id FIRST_CODE + c

# Tokens that a translation may have beyond the longest source, in graphs of any length.
MAX_EXTRA_LENGTH = 256

LEAST_SCORE = -1e8  # rows of a search with a lower score are not hypotheses

MAX_SEED = 2**32 - 1  # for data and training: the limit of NumPy and SentencePiece
MAX_SAMPLING_SEED = 2**31 - 1  # for decoding, where seeds are int32

# Formats of exports.
LITERT, SAVED_MODEL, CTRANSLATE2, WEB = "litert", "saved_model", "ctranslate2", "web"

INPUTS = "inputs"
TARGETS = "targets"

TRAIN = "train"
DEV = "dev"
TEST = "test"
SPLITS = (TRAIN, DEV, TEST)

TEXT_FORMATS = ("text", "tsv", "jsonl")  # output formats, see inference/output_formats.py

AUTO_TOKENIZER = "auto"  # chosen by the language of the text
BLEU_TOKENIZERS = (AUTO_TOKENIZER, "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none")


class UsageError(ValueError):
    """The user's input is invalid: a flag, a file, a name or a value.

    The commands print only its message, without a traceback, and exit with status 2. The message
    says what was wrong, what was found, what was expected and what to do.
    """


class NotExportableError(UsageError):
    """A model that has no graph of any batch and length."""
