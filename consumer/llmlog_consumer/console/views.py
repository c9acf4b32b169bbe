"""Owns how pages are drawn, with everything escaped, and how what people send is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from anyio import from_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from llmlog_consumer.console.formats import write_count, write_seconds, write_usd, write_value
from llmlog_consumer.times import iso

if TYPE_CHECKING:
    from starlette.requests import Request

FOLDER: Final = Path(__file__).parent
MAX_FIELDS: Final = 100


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page, or a part of one.

    Args:
        request: that it answers.
        template: name of its file.
        status: of HTTP.
        values: for the template.
    """
    text = ENVIRONMENT.get_template(template).render(
        person=request.state.person,
        path=request.url.path,
        query=request.url.query,
        console=request.app.state.console,
        **values,
    )
    # Clients may send halves of characters, which UTF-8 does not have.
    return HTMLResponse(text.encode("utf-8", "replace"), status)


def read_form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form, from the thread of a request; the gate has bounded its length.

    Where there are too many fields it is empty.
    """
    body = from_thread.run(request.body).decode("utf-8", "replace")
    try:
        return parse_qs(body, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return {}


def is_fragment(request: Request) -> bool:
    """Tell whether only a part of a page is wanted, which htmx puts into its place."""
    return "hx-request" in request.headers


def _new_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": write_count,
        "usd": write_usd,
        "seconds": write_seconds,
        "written": write_value,
        "iso": lambda ms: iso(ms, "milliseconds") or "",
    }
    return environment


ENVIRONMENT: Final = _new_environment()
