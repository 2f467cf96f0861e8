"""The HTTP interface: paths, what each answers, and how errors look."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.serving.admission import Admission
from edgesparse_runtime.serving.auth import OPEN_PATHS, Guard
from edgesparse_runtime.serving.batching import Batcher
from edgesparse_runtime.serving.connection import is_crowded
from edgesparse_runtime.serving.log import log
from edgesparse_runtime.serving.metrics import CONTENT_TYPE, Figures
from edgesparse_runtime.serving.openapi import describe, to_html
from edgesparse_runtime.serving.protocol import InferRequest, read_request, write_answer
from edgesparse_runtime.serving.refusal import Refusal
from edgesparse_runtime.serving.registry import Shelf
from edgesparse_runtime.serving.served_model import ServedModel
from edgesparse_runtime.serving.settings import Settings

# A JSON body of more bytes is parsed off the event loop, which must go on meanwhile.
_LONG_JSON = 64 << 10
_CROWDED = "More connections are open than this server takes; try again when some have been closed."
_Answer = tuple[bytes, int | None]


class Routes:
    """Handlers over one shelf of models.

    Attributes:
        is_leaving: the server was told to stop; it is not ready any more.
    """

    def __init__(
        self, shelf: Shelf, settings: Settings, admission: Admission, batcher: Batcher, figures: Figures
    ) -> None:
        self._shelf, self._settings = shelf, settings
        self._admission, self._batcher, self._figures = admission, batcher, figures
        self.is_leaving = False

    def application(self, guard: Guard) -> ASGIApp:
        """The ASGI application."""
        model = "/v2/models/{name}"
        pairs: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = []
        # Paths are tried in order: those of most requests come first.
        for stem in (model, model + "/versions/{version}"):
            pairs += [
                (stem + "/infer", "POST", self.infer),
                (stem + "/explain", "POST", self.explain),
                (stem + "/ready", "GET", self.model_ready),
                (stem, "GET", self.model_metadata),
            ]
        pairs += [
            ("/v2/health/live", "GET", self.live),
            ("/v2/health/ready", "GET", self.ready),
            ("/v2", "GET", self.server_metadata),
            ("/metrics", "GET", self.metrics),
            ("/openapi.json", "GET", self.openapi),
            ("/docs", "GET", self.docs),
        ]
        routes = [Route(path, handler, methods=[method]) for path, method, handler in pairs]
        handlers: dict[Any, Any] = {HTTPException: self._http_error, Refusal: self._refused}
        app = Starlette(routes=routes, exception_handlers=handlers)
        # A path with a slash too many is not there; a redirect would be one more thing to describe.
        app.router.redirect_slashes = False
        return _Guarded(app, guard, self)

    async def live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        return JSONResponse({"ready": not self.is_leaving}, 503 if self.is_leaving else 200)

    async def server_metadata(self, request: Request) -> Response:
        extensions = ["binary_tensor_data", "explain"]
        return JSONResponse({"name": "edgesparse", "version": tool_version(), "extensions": extensions})

    async def model_metadata(self, request: Request) -> Response:
        model = self._model(request)
        versions = self._shelf.versions(model.place.name)
        return JSONResponse(model.metadata(versions), headers=_headers(model))

    async def model_ready(self, request: Request) -> Response:
        model = self._model(request)
        return JSONResponse(
            {"name": model.place.name, "ready": not self.is_leaving},
            503 if self.is_leaving else 200,
            headers=_headers(model),
        )

    async def metrics(self, request: Request) -> Response:
        return Response(self._figures.show(self._shelf.models()), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(describe(self._shelf, self._settings))

    async def docs(self, request: Request) -> Response:
        return HTMLResponse(to_html(describe(self._shelf, self._settings)))

    async def infer(self, request: Request) -> Response:
        return await self._compute(request, "infer", self._infer)

    async def explain(self, request: Request) -> Response:
        return await self._compute(request, "explain", self._explain)

    async def _infer(self, model: ServedModel, asked: InferRequest) -> _Answer:
        scores = await self._batcher.scores(model, asked.window)
        place = model.place
        return write_answer(asked, place.name, place.version, model.parameters(), {"scores": scores})

    async def _explain(self, model: ServedModel, asked: InferRequest) -> _Answer:
        outputs = await self._batcher.call(lambda: model.explain(asked.window))
        place = model.place
        parameters = model.parameters() | model.explain_parameters(outputs)
        return write_answer(asked, place.name, place.version, parameters, outputs)

    async def _compute(
        self,
        request: Request,
        operation: str,
        answer: Callable[[ServedModel, InferRequest], Awaitable[_Answer]],
    ) -> Response:
        """Admit, read, compute, answer; whatever goes wrong is a status, a sentence and a count."""
        start = time.perf_counter()
        model: ServedModel | None = None
        windows = 0
        try:
            model = self._model(request)
            bounds = model.explain_bounds() if operation == "explain" else model.bounds
            headers = request.headers
            if headers.get("content-encoding", "identity") != "identity":
                raise Refusal(415, "The body must be sent as it is; `Content-Encoding` is not offered.")
            with self._admission.admit(_length(headers.get("content-length"))) as size:
                reading = True
                try:
                    async with asyncio.timeout(self._settings.timeout):
                        body = await _read_body(request, size)
                        reading = False
                        header_length = headers.get("inference-header-content-length")
                        arguments = (body, header_length, bounds, model.output_names(operation))
                        if header_length is None and len(body) > _LONG_JSON:
                            asked = await asyncio.to_thread(read_request, *arguments)
                        else:
                            asked = read_request(*arguments)
                        windows = len(asked.window)
                        content, head = await answer(model, asked)
                except TimeoutError:
                    status = 408 if reading else 504
                    what = "arrive" if reading else "be answered"
                    raise Refusal(
                        status, f"A request must {what} within {self._settings.timeout:g} s; it did not."
                    ) from None
                except EdgeSparseError as error:
                    raise Refusal(400, " ".join(str(error).split())) from None
            response = Response(content, headers=_headers(model))
            response.headers["content-type"] = (
                "application/json" if head is None else "application/octet-stream"
            )
            if head is not None:
                response.headers["inference-header-content-length"] = str(head)
        except Refusal as refusal:
            response = _error(refusal, model)
        seconds = time.perf_counter() - start
        ran = response.status_code == 200
        if ran:
            self._admission.note(seconds)
        self._figures.answered(operation, model, response.status_code, seconds if ran else None)
        if self._settings.log_requests:
            log(
                "request",
                operation=operation,
                model=model.place.name if model else None,
                version=model.place.version if model else None,
                bundle_sha256=model.bundle_hash if model else None,
                status=response.status_code,
                windows=windows,
                milliseconds=round(1e3 * seconds, 3),
            )
        return response

    def _model(self, request: Request) -> ServedModel:
        return self._shelf.find(request.path_params["name"], request.path_params.get("version"))

    async def _refused(self, request: Request, refusal: Refusal) -> Response:
        return self.refuse(refusal)

    async def _http_error(self, request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers) if error.headers else {}
        allowed = " and ".join(sorted(headers.get("Allow", "").replace(" ", "").split(",")))
        sentence = {
            404: "There is nothing at this path; GET /docs lists what there is.",
            405: f"This path takes {allowed}, not {request.method[:20]}.",
        }
        return self.refuse(Refusal(error.status_code, sentence.get(error.status_code, error.detail), headers))

    def refuse(self, refusal: Refusal) -> Response:
        """The answer to a request that no model saw."""
        self._figures.answered("other", None, refusal.status)
        return _error(refusal, None)


class _Guarded:
    """Asks the guard before anything else is done, and answers when something of ours breaks."""

    def __init__(self, app: ASGIApp, guard: Guard, routes: Routes) -> None:
        self._app, self._guard, self._routes = app, guard, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                if is_crowded(scope) and scope["path"] not in OPEN_PATHS:
                    # Whoever restarts or routes must still learn that the server lives.
                    raise Refusal(503, _CROWDED, {"Retry-After": "1", "Connection": "close"})
                self._guard.check(scope["path"], Request(scope).headers)
            except Refusal as refusal:
                await self._routes.refuse(refusal)(scope, receive, send)
                return
        with contextlib.suppress(ClientDisconnect):
            await self._app(scope, receive, send)


async def _read_body(request: Request, most: int) -> bytes | bytearray:
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > most:
            raise Refusal(413, f"A request must be at most {most} bytes.")
        body += chunk
    return body


def _length(header: str | None) -> int | None:
    # The HTTP parser has refused what is not a number.
    return int(header) if header is not None and header.isdigit() and len(header) < 19 else None


def _headers(model: ServedModel) -> dict[str, str]:
    return {"edgesparse-version": model.place.version, "edgesparse-bundle": model.bundle_hash}


def _error(refusal: Refusal, model: ServedModel | None) -> Response:
    headers = refusal.headers if model is None else refusal.headers | _headers(model)
    return JSONResponse({"error": refusal.message}, refusal.status, headers=headers)
