"""A stub sink: an Elasticsearch that answers every bulk at once and keeps nothing.

    python tests/benchmarks/scripts/stub.py PORT

As cheap as Python can be, because it shares the cores with what is measured: a thread for each
connection, one system call for a body, one search and one slice for a document, and an answer
whose pieces were made beforehand. It notes how many documents came when and from whom:
`GET /_bulks` tells.
"""

import json
import re
import socket
import sys
import threading
import time

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MOST = 16 << 20
"""Bytes of the largest body."""
_BETWEEN = b'","status":201}},{"create":{"_id":"'
_HEAD = (
    b"HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\n"
    b"content-type: application/vnd.elasticsearch+json;compatible-with=8\r\n"
    b"content-length: %d\r\n\r\n"
)
_bulks = []
"""Of each bulk: the sender's port, when (monotonic seconds, the same clock for all processes), and
how many documents."""
_refusal = {}
"""What to refuse: one of so many documents (`every`), with which `item`; empty for none."""


def serve(port: int) -> None:
    """Answer for ever."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    while True:
        connection, (_, sender) = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_talk, args=(connection, sender), daemon=True).start()


def _talk(connection: socket.socket, sender: int) -> None:
    buffer = bytearray(1 << 16)
    view = memoryview(buffer)
    while True:
        got, blank = 0, -1
        while blank < 0:
            more = connection.recv_into(view[got:])
            if not more:
                return
            got += more
            blank = buffer.find(b"\r\n\r\n", 0, got)
        head, body = bytes(view[:blank]), blank + 4
        length = int(found[1]) if (found := _LENGTH.search(head)) else 0
        end = body + length
        if end > len(buffer):
            larger = bytearray(max(end, _MOST))
            larger[:got] = view[:got]
            buffer, view = larger, memoryview(larger)
        while got < end:
            more = connection.recv_into(view[got:end], end - got, socket.MSG_WAITALL)
            if not more:
                return
            got += more
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        if path == b"/_bulk":
            answer, documents = (_mixed if _refusal else _created)(buffer, body, end)
            _bulks.append((sender, time.monotonic(), documents))
        elif path == b"/_refuse":
            _refusal.update(json.loads(buffer[body:end]))
            answer = b"{}"
        else:
            answer = _other(path)
        connection.sendall(_HEAD % len(answer) + answer)


def _mixed(buffer: bytearray, at: int, end: int) -> tuple[bytes, int]:
    """Return an answer in which some operations are refused, and how many are not."""
    items, created = [], 0
    lines = bytes(buffer[at:end]).split(b"\n")
    for number, action in enumerate(lines[0:-1:2]):
        name = action.rpartition(b'"_id":"')[2][:20].decode()
        is_refused = number % _refusal["every"] == 0
        item = _refusal["item"] if is_refused else {"status": 201}
        items.append({"create": {"_id": name, **item}})
        created += not is_refused
    return json.dumps({"errors": True, "items": items}).encode(), created


def _created(buffer: bytearray, at: int, end: int) -> tuple[bytes, int]:
    """Return the answer to operations that are two lines each, and how many there are.

    An action ends in `"_id":"` + 20 characters + `"}}` and a newline. All actions of one body have
    the same length, as their indices differ in digits alone.
    """
    ids, find = [], buffer.find
    length = find(b"\n", at) + 1 - at
    while at < end:
        document = at + length
        ids.append(buffer[document - 24 : document - 4])
        at = find(b"\n", document) + 1
    items = _BETWEEN.join(ids)
    answer = b'{"errors":false,"items":[{"create":{"_id":"%b","status":201}}]}' % items
    return answer, len(ids)


def _other(path: bytes) -> bytes:
    if path.endswith(b"/_mapping"):
        name = path.split(b"/")[1].decode()
        if not name[-1].isdigit():
            name += "-2026.01.01"  # the alias: there are daily indices behind it
        return json.dumps({name: {"mappings": {"_meta": {"llmlog_version": 1}}}}).encode()
    if path == b"/":
        return b'{"version":{"number":"8.19.21"},"tagline":"You Know, for Search"}'
    if path == b"/_bulks":
        return json.dumps(_bulks).encode()
    if b"/_index_template/" in path:
        return b'{"index_templates":[{"name":"x","index_template":{}}]}'
    return b"{}"


if __name__ == "__main__":
    serve(int(sys.argv[1]))
