"""A DNS server on 127.0.0.1 that answers NXDOMAIN to everything at once (for a machine without a network).

nulldns.py PORT
"""

import socket
import sys


def main():
    """Answer until killed."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", int(sys.argv[1])))
    while True:
        query, peer = s.recvfrom(4096)
        if len(query) >= 12:
            at = 12
            while at < len(query) and query[at]:
                at += query[at] + 1
            # id, QR|RD, RA|NXDOMAIN, one question, nothing else
            s.sendto(query[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + query[12 : at + 5], peer)


if __name__ == "__main__":
    main()
