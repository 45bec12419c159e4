"""Registered hparams sets; installed as t2t_vqem.hparams."""
