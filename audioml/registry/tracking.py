"""Where runs and models are recorded: the configured server, the workspace's running one, or one for the moment."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from audioml.errors import ServiceError
from audioml.ports import LOCAL
from audioml.registry.server import DATABASE, folder_of, use_server
from audioml.registry.workspace import ModelUser

URI_VARIABLE, REGISTRY_VARIABLE = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
PAGES_VARIABLE = "AUDIOML_MLFLOW_URL"
"""Environment variable: address at which people reach MLflow, where it is not the one that programs use."""
CONNECT_TIMEOUT_S = 10.0


@contextmanager
def tracking(ctx: ModelUser) -> Iterator[str]:
    """Point MLflow at a tracking server for the block, and yield its URI.

    The first of these that there is: the server in the environment variable MLFLOW_TRACKING_URI; the server of
    this workspace that runs (`audioml up`, or another command's); one that runs until the block ends.

    Raises
    ------
    ServiceError
        When the configured server can't be reached, or none can be started.
    """
    configured = os.environ.get(URI_VARIABLE)
    if configured:
        _check_reachable(configured)
        yield configured
        return
    with use_server(ctx.state) as server, _client_settings(server.url):
        yield server.url


class RegistryWatch:
    """Tells whether the registry may have changed since it was last seen; cheap, and starts no server.

    A workspace's own server writes its database file. Of a configured server nothing is known without asking it.
    """

    def __init__(self, ctx: ModelUser) -> None:
        self._is_own = not os.environ.get(URI_VARIABLE)
        self._folder = folder_of(ctx.state)
        self._seen: object = None

    def may_have_changed(self) -> bool:
        """Return whether it is worth asking the registry."""
        return not self._is_own or self._look() != self._seen

    def remember(self) -> None:
        """Take the registry as it is now for seen."""
        self._seen = self._look()

    def _look(self) -> object:
        paths = [self._folder / f"{DATABASE}{suffix}" for suffix in ("", "-wal")]
        return [(stat.st_mtime_ns, stat.st_size) for path in paths if path.exists() for stat in [path.stat()]]


def mlflow_url(tracking_uri: str = "") -> str:
    """Return the address at which people reach MLflow; an empty string if it is no web server.

    Parameters
    ----------
    tracking_uri
        Where programs reach it; else the one of the environment.
    """
    url = os.environ.get(PAGES_VARIABLE) or tracking_uri or os.environ.get(URI_VARIABLE, "")
    return url.rstrip("/") if url.startswith(("http://", "https://")) else ""


def _check_reachable(uri: str) -> None:
    """MLflow itself would try for minutes before it says that nothing answers."""
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    try:
        urllib.request.urlopen(uri, timeout=CONNECT_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return  # Any answer, such as "log in first", is a server.
    except (OSError, ValueError) as error:
        raise ServiceError(
            f"{URI_VARIABLE} is {uri}, but nothing answers there ({error}). Start that server, or unset "
            f"{URI_VARIABLE} to use the workspace's own."
        ) from None


@contextmanager
def _client_settings(url: str) -> Iterator[None]:
    import mlflow

    names = (URI_VARIABLE, REGISTRY_VARIABLE, "NO_PROXY", "no_proxy")
    before = {name: os.environ.get(name) for name in names}
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [before[name], LOCAL]))
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
