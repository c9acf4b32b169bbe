"""A stub sink: an Elasticsearch that answers every bulk at once and keeps nothing.

    python tests/benchmarks/stub.py PORT

Threads and sockets alone, so that it costs as little of the shared cores as it can.
"""

import json
import re
import socket
import sys
import threading

_ID = re.compile(rb'"_id":"([A-Za-z0-9_-]{20})"}}\n')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def serve(port: int) -> None:
    """Answer for ever."""
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_talk, args=(connection,), daemon=True).start()


def _talk(connection: socket.socket) -> None:
    head = b""
    buffer = bytearray(16 << 20)
    while True:
        while b"\r\n\r\n" not in head:
            more = connection.recv(65536)
            if not more:
                return
            head += more
        head, _, rest = head.partition(b"\r\n\r\n")
        length = int(found[1]) if (found := _LENGTH.search(head)) else 0
        buffer[: len(rest)] = rest
        view, got = memoryview(buffer), len(rest)
        while got < length:
            got += connection.recv_into(view[got:length])
        view.release()
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        body = _answer(path, buffer, length)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\n"
            b"content-type: application/vnd.elasticsearch+json;compatible-with=8\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        head = b""


def _answer(path: bytes, buffer: bytearray, length: int) -> bytes:
    if path == b"/_bulk":
        ids = _ID.findall(buffer, 0, length)
        items = b",".join([b'{"create":{"_id":"%b","status":201}}' % found for found in ids])
        return b'{"errors":false,"items":[' + items + b"]}"
    if path.endswith(b"/_mapping"):
        name = path.split(b"/")[1].decode()
        if not name[-1].isdigit():
            name += "-2026.01.01"  # the alias: there are daily indices behind it
        return json.dumps({name: {"mappings": {"_meta": {"llmlog_version": 1}}}}).encode()
    if path == b"/":
        return b'{"version":{"number":"8.19.21"},"tagline":"You Know, for Search"}'
    if b"/_index_template/" in path:
        return b'{"index_templates":[{"name":"x","index_template":{}}]}'
    return b"{}"


if __name__ == "__main__":
    serve(int(sys.argv[1]))
