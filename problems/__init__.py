"""Registered problems; installed as t2t_vqem.problems."""
