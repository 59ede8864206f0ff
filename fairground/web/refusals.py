"""What people are told where something is refused or fails: a page in a browser, JSON to a script."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from fairground.errors import ArenaRefusal, FairgroundError, RequestError, StoreError
from fairground.serving.refusals import Refusal
from fairground.web.page import page

HEADINGS = {
    400: "That cannot be done",
    401: "Sign in first",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "That cannot be done here",
    409: "That was decided before",
    410: "That is over",
    413: "That is too long",
    429: "Slow down a little",
    503: "Not just now",
}
NOT_FOUND = "There is no page at this address, or it is somebody else's; the links above lead to what there is."


def answer(request: Request, status: int, said: str) -> Response:
    """The refusal as whoever asked can read it: `error` in JSON, or a page."""
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": said}, status)
    heading = HEADINGS.get(status, "Something went wrong")
    called = f"{status} {HTTPStatus(status).phrase}"
    back = request.url.path if request.method == "GET" else ""
    return page(request, "error.html", status, called=called, heading=heading, said=said, back=back)


def told(error: BaseException) -> tuple[int, str]:
    """The status and the sentence for an error; what is not meant for people is said in general."""
    match error:
        case ArenaRefusal():
            return error.status, str(error)
        case Refusal():
            return error.status, error.message
        case RequestError():
            return 400, str(error)
        case StoreError():
            return 503, "The database cannot be used just now, so nothing was done; try again in a moment."
        case FairgroundError():
            return 503, str(error)
        case _:
            return 500, "The site failed at this, and its log says why; nothing was counted."


def install(app: FastAPI) -> None:
    """Makes the application answer so."""

    async def ours(request: Request, error: Exception) -> Response:
        status, said = told(error)
        if status >= 500 and not isinstance(error, (ArenaRefusal, Refusal)):
            logging.getLogger("fairground.web").error("a request failed", exc_info=error)
        return answer(request, status, said)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        said = NOT_FOUND if error.status_code in (404, 405) else f"{error.detail}."
        return answer(request, error.status_code, said)

    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        return answer(request, 400, f"{where or 'What was sent'} is not right: {first['msg'].lower()}; correct it.")

    for kind in (FairgroundError, Refusal, Exception):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, malformed)
