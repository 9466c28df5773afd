"""Decoders and ciphers that several openers share. Like the openers they run in the box's child and nowhere else."""
