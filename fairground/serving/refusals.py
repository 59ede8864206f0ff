"""Every failure as OpenAI's error object: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fairground.errors import (
    CapabilityError,
    FairgroundError,
    RemoteError,
    RequestError,
    TemplateError,
    UnknownModel,
)
from fairground.types import Sampling

TYPES = {401: "authentication_error", 429: "rate_limit_error", 502: "upstream_error", 503: "service_unavailable_error"}

FIELDS = ("n", "messages", "prompt", "echo", "top_logprobs", "response_format", "structured_outputs")
SETTINGS = {*(field.name for field in fields(Sampling)), *FIELDS}
SENTENCES = {
    400: "The body cannot be read as JSON; correct it.",
    404: "There is nothing at this address; /openapi.json lists what there is.",
    405: "This address takes another method; /openapi.json says which.",
}


class Refusal(Exception):
    """A request that is not served, with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry_after = status, message, param, code, retry_after

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The object with its status, and when to come again where that is known."""
        again = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return JSONResponse(self.body(), self.status, {**again, **(headers or {})})


def refusal(error: BaseException) -> Refusal:
    """What a client is told of an error: ours in their own words, any other without what it says inside."""
    match error:
        case Refusal():
            return error
        case RequestError() | CapabilityError() | TemplateError():
            return Refusal(400, str(error), param=_field(str(error)))
        case RemoteError() | UnknownModel():
            return Refusal(502, str(error))
        case FairgroundError():
            return Refusal(503, str(error))
        case _:
            return Refusal(500, "The server failed at this request; its log says why.")


def _field(message: str) -> str | None:
    """Our sentences about a setting begin with its name: "top_p is 2, but …"."""
    first = message.partition(" ")[0]
    return first if first in SETTINGS else None


def log_unexpected(error: Exception) -> None:
    """What a client is told of only in general, the log says whole."""
    if not isinstance(error, (Refusal, FairgroundError)):
        logging.getLogger("fairground.serving").error("a request failed", exc_info=error)


def invalid(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """The first thing that is wrong with a body, in a sentence that names the field."""
    error = errors[0]
    # Between the fields stand the kinds of which a value may be one: "prompt", "list[str]", 0.
    path = [part for part in map(str, error["loc"]) if part not in ("body", "str") and "[" not in part]
    name = path[0] if path else None
    where = ".".join(path) or "the body"
    if error["type"] == "extra_forbidden":
        return Refusal(400, f"{where} is not supported here; leave it out.", param=name, code="unsupported_parameter")
    if error["type"] == "missing":
        return Refusal(400, f"{where} is missing; give it.", param=name, code="missing_required_parameter")
    if error["type"] == "json_invalid":
        return Refusal(400, "The body is not JSON; correct it.")
    said = error["msg"].removeprefix("Value error, ")
    return Refusal(400, f"{where} is not right: {said[0].lower()}{said[1:]}.", param=name)


def install(app: FastAPI) -> None:
    """Makes the app answer in these words."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        return refusal(error).response()

    async def malformed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        if "json" not in request.headers.get("content-type", ""):
            return Refusal(400, "The body must be JSON and say so; send content-type: application/json.").response()
        return invalid(error.errors()).response()

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        said = SENTENCES.get(error.status_code, f"{error.detail}.")
        return Refusal(error.status_code, said).response(error.headers)

    for kind in (Refusal, FairgroundError, Exception):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, http)
