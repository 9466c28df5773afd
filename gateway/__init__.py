"""Gatepost: an email security gateway that an operator who knows his network administers."""
