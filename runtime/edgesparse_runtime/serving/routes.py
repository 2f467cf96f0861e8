"""The HTTP interface: paths, what each answers, and how errors look."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy.typing as npt
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgesparse_runtime.bundle.version import tool_version
from edgesparse_runtime.errors import EdgeSparseError
from edgesparse_runtime.serving.admission import Admission, Place
from edgesparse_runtime.serving.batching import Batcher
from edgesparse_runtime.serving.http.auth import OPEN_PATHS, AccessControl
from edgesparse_runtime.serving.http.exchange import Exchange
from edgesparse_runtime.serving.log import log
from edgesparse_runtime.serving.metrics import CONTENT_TYPE, Metrics
from edgesparse_runtime.serving.monitoring import Monitors
from edgesparse_runtime.serving.openapi import describe, to_html
from edgesparse_runtime.serving.protocol.answers import Answer, write_answer
from edgesparse_runtime.serving.protocol.refusal import Refusal
from edgesparse_runtime.serving.protocol.requests import InferRequest, read_request
from edgesparse_runtime.serving.protocol.tensors import WindowBounds
from edgesparse_runtime.serving.registry import Registry
from edgesparse_runtime.serving.served_model import ServedModel
from edgesparse_runtime.serving.served_text import ServedText
from edgesparse_runtime.serving.settings import Settings

# A JSON body of more bytes is parsed off the event loop, and an answer of more values written there.
_LONG_JSON = 64 << 10
_MANY_VALUES = 4096
# Values of windows that take a millisecond to check.
_LONG_WINDOW = 1 << 14
# How proxies count a request whose client closed the connection before the answer.
_CLIENT_GONE = 499
_P = ParamSpec("_P")
_T = TypeVar("_T")
_CROWDED = "More connections are open than this server allows; try again later."


class Routes:
    """Handlers of all paths.

    Attributes:
        is_shutting_down: the server was told to stop and is no longer ready.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        admission: Admission,
        batcher: Batcher,
        metrics: Metrics,
        monitors: Monitors | None = None,
    ) -> None:
        self._registry, self._settings = registry, settings
        self._admission, self._batcher, self._metrics = admission, batcher, metrics
        self._monitors = monitors
        # JSON takes 25 times its size while it is parsed: one long body at a time.
        self._long_json = asyncio.Semaphore(1)
        self.is_shutting_down = False

    def application(self, access: AccessControl) -> ASGIApp:
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
        handlers: dict[Any, Any] = {
            HTTPException: self._http_error,
            Refusal: self._refused,
            Exception: self._broken,
        }
        app = Starlette(routes=routes, exception_handlers=handlers)
        # A path with a slash too many is not there; a redirect would be one more thing to describe.
        app.router.redirect_slashes = False
        return _Guarded(app, access, self)

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        return _json({"ready": not self.is_shutting_down}, 503 if self.is_shutting_down else 200)

    async def server_metadata(self, request: Request) -> Response:
        extensions = ["binary_tensor_data", "explain"]
        return _json({"name": "edgesparse", "version": tool_version(), "extensions": extensions})

    async def model_metadata(self, request: Request) -> Response:
        model = self._model(request)
        versions = self._registry.versions(model.address.name)
        return _json(model.metadata(versions), headers=_headers(model))

    async def model_ready(self, request: Request) -> Response:
        model = self._model(request)
        return _json(
            {"name": model.address.name, "ready": not self.is_shutting_down},
            503 if self.is_shutting_down else 200,
            _headers(model),
        )

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.show(self._registry.models(), self._monitors), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        return _json(describe(self._registry, self._settings))

    async def docs(self, request: Request) -> Response:
        return HTMLResponse(to_html(describe(self._registry, self._settings)))

    async def infer(self, request: Request) -> Response:
        return await self._answer(request, "infer")

    async def explain(self, request: Request) -> Response:
        return await self._answer(request, "explain")

    async def _answer(self, request: Request, operation: str) -> Response:
        """Compute an answer; whatever goes wrong is a status, a sentence and a count."""
        start = time.perf_counter()
        work = _Work(operation, Exchange.of(request.scope))
        try:
            work.model = self._model(request)
            response = await self._compute(request, work)
        except Refusal as refusal:
            response = _error(refusal, work.model)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_GONE)  # which nobody reads
        seconds = time.perf_counter() - start
        ran = response.status_code == 200
        if ran:
            self._admission.note(seconds)
        self._metrics.answered(operation, work.model, response.status_code, seconds if ran else None)
        if self._settings.log_requests:
            self._log(work, response.status_code, seconds)
        return response

    async def _compute(self, request: Request, work: _Work) -> Response:
        model = work.model
        assert model is not None
        bounds = model.explain_bounds() if work.operation == "explain" else model.bounds
        headers = request.headers
        if headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "`Content-Encoding` is not supported; send the body as it is.")
        try:
            async with asyncio.timeout_at(work.exchange.deadline) as limit:
                place = self._admission.open(
                    _length(headers.get("content-length")), lambda: work.give_up(limit)
                )
                # From here on the place is held until the answer is sent or the client is gone.
                work.exchange.when_over(place.release)
                # A client that is gone ends its work, queued or running.
                work.exchange.when_over(lambda: work.end(limit))
                body = await _read_body(request, place)
                work.is_reading = False
                outputs = model.output_names(work.operation)
                asked = await _read(body, headers, bounds, outputs, self._long_json)
                work.windows = asked.rows
                answer = await self._run(model, work.operation, asked)
        except TimeoutError:
            raise work.explain_timeout(self._settings.timeout) from None
        except EdgeSparseError as error:
            raise Refusal(400, " ".join(str(error).split())) from None
        finally:
            work.is_done = True
        place.answer(answer.held)
        return AnswerResponse(answer, _headers(model))

    async def _run(self, model: ServedModel, operation: str, asked: InferRequest) -> Answer:
        parameters = model.parameters()
        if isinstance(model, ServedText):
            found, more = await model.embed(asked.texts, asked.prompt, self._batcher.scores)
            return await self._write(model, asked, parameters | more, model.outputs(found))
        faults = await _off_loop(asked.window.size > _LONG_WINDOW, model.faults, asked.window)
        if faults:
            # No answer is surer than one to a dead sensor.
            parameters = parameters | {"faults": faults}
            self._metrics.faulty(model)
        outputs: Mapping[str, npt.NDArray[Any]]
        if operation == "explain":
            outputs = await self._batcher.explain(model, asked.window)
            parameters = parameters | model.explain_parameters(outputs)
        else:
            scores = await self._batcher.scores(model, asked.window)
            outputs = model.outputs(scores)
            if self._monitors is not None:
                self._monitors.add(model, asked.window, scores[:, : outputs["scores"].shape[1]], faults)
        return await self._write(model, asked, parameters, outputs)

    async def _write(
        self,
        model: ServedModel,
        asked: InferRequest,
        parameters: Mapping[str, Any],
        outputs: Mapping[str, npt.NDArray[Any]],
    ) -> Answer:
        address = model.address
        arguments = (asked, address.name, address.version, parameters, outputs)
        is_large = sum(array.size for array in outputs.values()) > _MANY_VALUES
        return await _off_loop(is_large, write_answer, *arguments)

    def _log(self, work: _Work, status: int, seconds: float) -> None:
        model = work.model
        log(
            "request",
            operation=work.operation,
            model=model.address.name if model else None,
            version=model.address.version if model else None,
            bundle_sha256=model.bundle_hash if model else None,
            status=status,
            windows=work.windows,
            milliseconds=round(1e3 * seconds, 3),
        )

    def _model(self, request: Request) -> ServedModel:
        return self._registry.find(request.path_params["name"], request.path_params.get("version"))

    async def _refused(self, request: Request, refusal: Refusal) -> Response:
        return self.refuse(refusal)

    async def _http_error(self, request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers) if error.headers else {}
        allowed = " and ".join(sorted(headers.get("Allow", "").replace(" ", "").split(",")))
        sentence = {
            404: "No such path; GET /docs lists all paths.",
            405: f"This path allows {allowed}, not {request.method[:20]}.",
        }
        return self.refuse(Refusal(error.status_code, sentence.get(error.status_code, error.detail), headers))

    async def _broken(self, request: Request, error: Exception) -> Response:
        return self.refuse(Refusal(500, "This is a bug in EdgeSparse; the server's log has the details."))

    def refuse(self, refusal: Refusal) -> Response:
        """The answer to a request that reached no model."""
        self._metrics.answered("other", None, refusal.status)
        return _error(refusal, None)


@dataclass
class _Work:
    """One request to a model on its way through the server."""

    operation: str
    exchange: Exchange
    model: ServedModel | None = None
    windows: int = 0
    is_reading: bool = True
    is_done: bool = False
    has_given_up: bool = False

    def give_up(self, limit: asyncio.Timeout) -> None:
        """Make room for others while the body arrives."""
        self.has_given_up = True
        self.end(limit)

    def end(self, limit: asyncio.Timeout) -> None:
        """Stop whatever is being done for this request."""
        if not self.is_done:
            limit.reschedule(0.0)

    def explain_timeout(self, seconds: float) -> Exception:
        """What is raised in place of a timeout."""
        if self.exchange.is_over:
            return ClientDisconnect()
        if self.has_given_up:
            wait = {"Retry-After": "1"}
            return Refusal(
                429, "Requests in flight fill the memory; this one had been arriving longest.", wait
            )
        if self.is_reading:
            return Refusal(408, f"A request must arrive within {seconds:g} s.")
        return Refusal(504, f"A request must be answered within {seconds:g} s; it was not.")


class AnswerResponse(Response):
    """Sends an answer piece by piece, as fast as the client reads."""

    def __init__(self, answer: Answer, headers: Mapping[str, str]) -> None:
        is_json = answer.head_length is None
        super().__init__(media_type="application/json" if is_json else "application/octet-stream")
        self.headers.update(headers)
        self.headers["content-length"] = str(answer.length)
        if not is_json:
            self.headers["inference-header-content-length"] = str(answer.head_length)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        waits = b""
        for piece in self._answer.pieces():
            if waits:
                await send({"type": "http.response.body", "body": waits, "more_body": True})
                if exchange.is_over:
                    return
                # Others have their turn between two pieces.
                await asyncio.sleep(0)
            waits = piece
        await send({"type": "http.response.body", "body": waits})


class _Guarded:
    """Checks access before anything else, and closes connections whose request is not complete."""

    def __init__(self, app: ASGIApp, access: AccessControl, routes: Routes) -> None:
        self._app, self._access, self._routes = app, access, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange.of(scope)

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and not exchange.is_complete:
                # What still arrives of this request is of no use, and must not keep the connection.
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        try:
            if exchange.is_crowded and scope["path"] not in OPEN_PATHS:
                # Whoever restarts or routes must still learn that the server is alive.
                raise Refusal(503, _CROWDED, {"Retry-After": "1", "Connection": "close"})
            self._access.check(scope["path"], Request(scope).headers)
        except Refusal as refusal:
            await self._routes.refuse(refusal)(scope, receive, send_and_close)
            return
        with contextlib.suppress(ClientDisconnect):
            await self._app(scope, receive, send_and_close)


async def _off_loop(is_long: bool, work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Call `work`, in a thread where it takes long: the event loop serves others meanwhile."""
    return await asyncio.to_thread(work, *arguments, **named) if is_long else work(*arguments, **named)


async def _read_body(request: Request, place: Place) -> bytes | bytearray:
    body = bytearray()
    async for chunk in request.stream():
        place.add(len(chunk))
        body += chunk
    place.complete()
    return body


async def _read(
    body: bytes | bytearray,
    headers: Headers,
    bounds: WindowBounds,
    outputs: Sequence[str],
    long_json: asyncio.Semaphore,
) -> InferRequest:
    header_length = headers.get("inference-header-content-length")
    is_long = len(body) > _LONG_JSON
    if is_long and (header_length is None or len(header_length) > len(str(_LONG_JSON))):
        async with long_json:
            return await asyncio.to_thread(read_request, body, header_length, bounds, outputs)
    return read_request(body, header_length, bounds, outputs)


def _length(header: str | None) -> int | None:
    # The HTTP parser has refused what is not a number.
    return int(header) if header is not None and header.isdigit() and len(header) < 19 else None


def _headers(model: ServedModel) -> dict[str, str]:
    return {"edgesparse-version": model.address.version, "edgesparse-bundle": model.bundle_hash}


def _error(refusal: Refusal, model: ServedModel | None) -> Response:
    headers = refusal.headers if model is None else refusal.headers | _headers(model)
    return _json({"error": refusal.message}, refusal.status, headers)


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII, which any text can be written in."""
    return Response(json.dumps(value, allow_nan=False), status, headers, "application/json")
