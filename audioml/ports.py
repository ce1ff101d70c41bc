"""TCP ports: take one, or say who could not."""

from __future__ import annotations

import errno
import socket

from audioml.errors import ServiceError

LOCAL = "127.0.0.1"
BACKLOG = 128


def listen(host: str, port: int | None, service: str, option: str = "--port") -> socket.socket:
    """Return a socket that listens at `host`:`port`; None takes any free port.

    Listening at once, before a service is loaded, leaves no moment in which another process can take
    the port, and tells of a conflict before any long work.

    Raises
    ------
    ServiceError
        When the port is in use or may not be opened; the message names it and the service.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # The port of a server that ended a moment ago is free, though its connections linger: Linux lets it be taken
        # if both listeners asked for that.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port or 0))
        listener.listen(BACKLOG)
    except OverflowError:
        listener.close()
        raise ServiceError(f"{service}: port {port} is no port; give a number from 1 to 65535.") from None
    except OSError as error:
        listener.close()
        why = "is in use by another process" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error}"
        raise ServiceError(f"{service}: port {port} on {host} {why}. Give another one with {option}.") from None
    return listener


def port_of(listener: socket.socket) -> int:
    """Return the port at which a socket listens."""
    port: int = listener.getsockname()[1]
    return port
