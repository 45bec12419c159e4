"""The commands, one file each; installed as t2t_vqem.bin."""
