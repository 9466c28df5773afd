"""A box for a command or a single piece of work: with a zygote of its own, for as long as it is needed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.inspection.box import zygote
from gateway.inspection.box.channel import Channel

END_SECONDS = 5.0


@contextmanager
def zygote_alone() -> Iterator[Channel]:
    """Start a zygote and end it; a box asks for its children by the channel."""
    channel = Channel()
    requests = channel.zygote_end.fileno()
    arguments, environment = zygote.command(requests)
    process = subprocess.Popen(arguments, env=environment, pass_fds=(requests,))
    try:
        yield channel
    finally:
        channel.close()  # nobody is left to ask
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
