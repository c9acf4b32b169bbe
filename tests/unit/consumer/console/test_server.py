"""The sockets that the console listens on."""

from __future__ import annotations

import socket
import stat

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.console.options import Options
from llmlog_consumer.console.server import listen


def test_an_answer_does_not_wait_for_the_other_side_between_its_head_and_its_body() -> None:
    with listen(Options(port=0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_said() -> None:
    with listen(Options(port=0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"--port {port}: .*give another --port"):
            listen(Options(port=port))


def test_a_unix_socket_is_open_to_its_owner_and_group_and_replaces_one_that_was_left(
    tmp_path,
) -> None:
    path = tmp_path / "console.sock"
    for _ in range(2):
        with listen(Options(socket=path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
