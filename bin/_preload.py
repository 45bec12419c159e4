"""Imports TensorFlow quietly in a process that is forked later.

It does not search for devices: a GPU that was used before a fork cannot be used after it.
"""

from t2t_vqem.bin import _quiet

_quiet.start(find_devices=False)
