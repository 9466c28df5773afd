"""The box: where C code parses hostile files. See `client.Box` for what a worker sees of it.

A zygote (`zygote`) is a fresh interpreter that never held a secret; it imports the parsers once. Each worker asks it
for children by `channel.Channel`; a child (`child`) locks itself in (`sandbox`) and opens the files of one message
after the other (`wire` is how they talk). This file imports nothing: else the zygote would carry all that the worker
needs.
"""
