"""audioml's pages in Airflow's API server: what each workspace has, and where; its reports, read-only.

For people who are logged in to Airflow, and each sees the workspaces whose DAG they may see. Reports hold names of
files and labels that anyone may have chosen, so they are shown in a sandbox: no script in them runs with the rights of
who reads them.
"""

from __future__ import annotations

import secrets
from importlib import resources
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode, urlsplit

import jinja2
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.staticfiles import StaticFiles
from starlette.status import HTTP_307_TEMPORARY_REDIRECT, HTTP_401_UNAUTHORIZED, HTTP_403_FORBIDDEN, HTTP_404_NOT_FOUND

from audioml.errors import ParamsError
from audioml.orchestration.airflow.messages import base_url
from audioml.orchestration.airflow.overview import describe_workspaces
from audioml.orchestration.workspaces import find_workspaces
from audioml.params import load_params

PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; "
    "frame-ancestors 'self'"
)
REPORT_POLICY = "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-cache"}
LOGIN = "/api/v2/auth/login"
User = Annotated[BaseUser, Depends(get_user)]


def create_pages() -> FastAPI:
    """Return the application that Airflow's API server mounts."""
    app = FastAPI(title="audioml", docs_url=None, redoc_url=None, openapi_url=None)
    template = _load_template()

    @app.exception_handler(StarletteHTTPException)
    async def refuse(request: Request, error: StarletteHTTPException) -> Response:
        if error.status_code in (HTTP_401_UNAUTHORIZED, HTTP_403_FORBIDDEN):
            # As people reach it, which behind a proxy is not as this server sees itself.
            here = urlsplit(base_url())
            page = here._replace(path=request.url.path, query=request.url.query).geturl()
            login = f"{base_url()}{LOGIN}?{urlencode({'next': page})}"
            return RedirectResponse(login, HTTP_307_TEMPORARY_REDIRECT)
        return HTMLResponse(f"<!doctype html><title>audioml</title><p>{error.detail}", error.status_code, HEADERS)

    @app.get("/")
    def show_workspaces(user: User) -> HTMLResponse:
        folders = [folder for folder in find_workspaces() if _may_read(user, _name_of(folder))]
        shown = describe_workspaces(folders)
        nonce = secrets.token_urlsafe(16)
        page = template.render(workspaces=shown, airflow=base_url(), nonce=nonce)
        return HTMLResponse(page, headers={**HEADERS, "Content-Security-Policy": PAGE_POLICY.format(nonce=nonce)})

    @app.get("/workspaces/{name}/reports/{path:path}")
    async def show_report(name: str, path: str, user: User, request: Request) -> Response:
        folder = _folder_of(name)
        if folder is None or not _may_read(user, name):
            raise HTTPException(HTTP_404_NOT_FOUND, "There is no such workspace.")
        # Refuses what leaves the folder, by .. or by a link.
        files = StaticFiles(directory=folder / "reports", html=True, check_dir=False)
        response = await files.get_response(path, request.scope)
        response.headers.update({**HEADERS, "Content-Security-Policy": REPORT_POLICY})
        return response

    return app


def _folder_of(name: str) -> Path | None:
    """Return the folder of the workspace of a name."""
    return next((folder for folder in find_workspaces() if _name_of(folder) == name), None)


def _name_of(folder: Path) -> str | None:
    """Return the name of a workspace; None where its params are not valid."""
    try:
        return load_params(folder).name
    except ParamsError:
        return None


def _may_read(user: BaseUser, name: str | None) -> bool:
    """Return whether a user may see the DAG of a workspace; a broken one has none, so all see that it is broken."""
    if name is None:
        return True
    return bool(get_auth_manager().is_authorized_dag(method="GET", user=user, details=DagDetails(id=name)))


def _load_template() -> jinja2.Template:
    text = resources.files("audioml.orchestration.airflow").joinpath("pages.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(text)
