"""Imported before TensorFlow in a process that others are forked from: its import is quiet there.

It does not look for devices: a GPU that was in use before a fork cannot be used after it.
"""

from t2t_vqem.bin import _quiet

_quiet.start(find_devices=False)
