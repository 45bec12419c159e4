"""The commands, one file each; installed as t2t_vqem.bin."""

import os

# TensorFlow reads this when it is imported: without it, every command begins with a page about the
# processor's instructions. Errors are still shown; TF_CPP_MIN_LOG_LEVEL=0 shows everything.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
