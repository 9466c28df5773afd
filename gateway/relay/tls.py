"""TLS on the receiving side: a listener's context, the handshake after STARTTLS (RFC 3207), what came of it."""

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final

from gateway.mail.envelope import Tls

HANDSHAKE_SECONDS: Final = 30.0
MAX_NAME: Final = 255


def server_context(certificate: Path, key: Path, client_authorities: Path | None = None) -> ssl.SSLContext:
    """Return the context of a listener. With `client_authorities` a client may show a certificate, to be verified.

    Raises OSError or ssl.SSLError when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # RFC 8996. Whoever cannot do 1.2 falls back to clear text, since opportunistic TLS must not lose mail.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.load_cert_chain(certificate, key)
    if client_authorities is not None:
        context.load_verify_locations(client_authorities)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def secure(
    transport: asyncio.Transport, protocol: asyncio.Protocol, context: ssl.SSLContext
) -> asyncio.Transport:
    """Do the handshake on a connection whose 220 has been written; return the transport that replaces it.

    Each loop's own implementation is used: uvloop's is faster than aiosmtpd's use of `asyncio.sslproto`. Raises OSError
    (ssl.SSLError is one, and so is the handshake's time-out) when it fails.
    """
    loop = asyncio.get_running_loop()
    secured = await loop.start_tls(
        transport, protocol, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
    )
    if secured is None:  # the peer hung up meanwhile
        raise ConnectionResetError("connection lost during the handshake")
    return secured


def describe(connection: Any) -> Tls:
    """Say what protects a connection, given its `ssl_object`."""
    cipher = connection.cipher()
    return Tls(
        version=connection.version() or "",
        cipher=cipher[0] if cipher else "",
        client_name=_client_name(connection.getpeercert()),
    )


def _client_name(certificate: dict[str, Any] | None) -> str:
    """Return the first DNS name of a verified certificate, else its common name. Unverified ones come as {} or None."""
    if not certificate:
        return ""
    for kind, name in certificate.get("subjectAltName", ()):
        if kind == "DNS":
            return str(name)[:MAX_NAME]
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return str(names[0])[:MAX_NAME] if names else ""
