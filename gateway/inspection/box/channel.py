"""How workers ask the zygote for children: one pair of sockets, made by the parent of all and inherited by everybody.

A request is one octet and one descriptor: the child's end of a socket pair of which the worker keeps the other. Nothing
is connected, so a zygote that is started anew goes on where the last one ended: requests wait in the pair meanwhile.
"""

import socket

REQUEST = b"+"
STARTED = b"z"  # the zygote to the worker, with a descriptor of the child's process
READY = b"c"  # the child to the worker: it has locked itself in


class Channel:
    """Both ends, held by the parent. Workers use `worker_end`, the zygote `zygote_end`."""

    def __init__(self) -> None:
        # Packets, so that requests of several workers never mix.
        self.worker_end, self.zygote_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.worker_end.setblocking(False)

    def ask_for_child(self) -> socket.socket:
        """Return the worker's end of a new child's socket. Raises OSError when the zygote is far behind."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            socket.send_fds(self.worker_end, [REQUEST], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        self.worker_end.close()
        self.zygote_end.close()
