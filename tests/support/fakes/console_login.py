"""People who log in to a console whose servers are answers in memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlog_consumer.console.access.logins import TokenFile
from llmlog_consumer.console.app import Console, Page
from support.fakes.console import EVENT_ID, URL, browser, new_console

if TYPE_CHECKING:
    from starlette.testclient import TestClient

TOKEN = "a-token-of-thirty-two-characters-"
SECRET = "a-secret-of-thirty-two-characters"
FROM_HERE = {"origin": URL}


def token_file(folder: Path, roles: str) -> TokenFile:
    """Write a file with one token."""
    path = folder / "tokens"
    path.write_text(f"# people\nada {roles} {TOKEN}\n")
    return TokenFile(path)


def log_in(client: TestClient, token: str = TOKEN) -> Any:
    """Send a token; return the answer."""
    return client.post("/login", data={"token": token}, headers=FROM_HERE)


def csrf_of(client: TestClient) -> str:
    """Return the token of a person's forms."""
    found = re.search(r'"X-CSRF-Token": "([^"]+)"', client.get("/login-not-there").text)
    assert found is not None
    return found[1]


def logged_in(folder: Path, roles: str, **options: Any) -> tuple[Console, TestClient]:
    """Return a console, and the browser of a person who has logged in."""
    console = new_console(tokens=token_file(folder, roles), **options)
    client = browser(console)
    assert log_in(client).status_code == 303
    return console, client


def address_of(page: Page) -> str:
    """Return an address of a page."""
    values = {
        "panel": "cost", "event_id": EVENT_ID, "topic": "t.dlq", "partition": "0", "offset": "1",
        "number": "none",
    }  # fmt: skip
    path = re.sub(r"\{(\w+)\}", lambda name: values[name[1]], page.path)
    return path + "?fingerprint=cd6f6273e49e"
