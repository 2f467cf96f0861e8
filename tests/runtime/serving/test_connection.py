"""The contract with uvicorn: what `Connection` overrides and reads is there, in the installed version."""

from __future__ import annotations

import inspect

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

import httptools
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from edgesparse_runtime.serving.http.connection import Connection

OVERRIDDEN = {
    "connection_made": ["self", "transport"],
    "connection_lost": ["self", "exc"],
    "data_received": ["self", "data"],
    "on_message_begin": ["self"],
    "on_url": ["self", "url"],
    "on_header": ["self", "name", "value"],
    "on_headers_complete": ["self"],
    "on_body": ["self", "body"],
    "on_message_complete": ["self"],
    "on_response_complete": ["self"],
    "_start_asgi_task": ["self", "cycle", "app"],
    "send_400_response": ["self", "msg"],
    "pause_writing": ["self"],
    "resume_writing": ["self"],
}


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_is_overridden_has_the_same_arguments(name: str) -> None:
    for owner in (HttpToolsProtocol, Connection):
        assert list(inspect.signature(getattr(owner, name)).parameters) == OVERRIDDEN[name], owner


def test_nothing_else_of_uvicorn_is_overridden() -> None:
    both = vars(Connection).keys() & vars(HttpToolsProtocol).keys()
    assert {name for name in both if not name.startswith("__")} == set(OVERRIDDEN)


def test_the_names_that_are_read_are_there() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    for name in ("loop", "parser", "flow", "connections", "pipeline", "scope", "headers", "cycle", "url"):
        assert f"self.{name} = " in source or f"self.{name}: " in source, name
    assert hasattr(HttpToolsProtocol, "_unset_keepalive_if_required")
    cycle = inspect.getsource(RequestResponseCycle)
    for name in ("response_started", "response_complete", "keep_alive"):
        assert f"self.{name} = " in cycle, name
    # Every write, and every close at the end of an answer, goes through the transport that is passed on.
    assert "transport=self.transport" in source and "flow=self.flow" in source
    assert {"pause_reading", "resume_reading"} <= vars(flow_control.FlowControl).keys()


def test_a_parser_that_meets_an_upgrade_says_where_it_stopped() -> None:
    """The body begins there; `Connection` reads the request again without its offer."""

    class Nothing:
        pass

    parser = httptools.HttpRequestParser(Nothing())
    head = b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as offer:
        parser.feed_data(head + b"ab")
    assert offer.value.args[0] == len(head)
    assert httptools_impl.HttpToolsProtocol.data_received is not Connection.data_received
