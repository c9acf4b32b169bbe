"""The ceiling: the documents of a topic, ready-made, posted to `_bulk`.

    python tests/benchmarks/scripts/direct.py BODY_BYTES CONNECTIONS

Reads `LLMLOG_…` as the pipeline does; prints documents and seconds as JSON. Only the posting is
timed.
"""

import http.client
import json
import os
import queue
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from llmlog_common.settings import load
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.elasticsearch.document import Documents
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_schemas.codec import Decoder


def bodies(settings, body_bytes):
    """Return the bodies, made as the pipeline makes them, and the number of documents."""
    decoder, documents = Decoder(), Documents(settings.index, settings.max_event_age)
    builder, made, count = BatchBuilder(), [], 0
    builder.max_bytes, builder.max_operations = body_bytes, 10**9
    ranges = KafkaOffsets(KafkaAdmin(settings)).ranges_since(settings.topic, None)
    for chunk in topic_reader.read(settings, settings.topic, ranges):
        for record in chunk:
            event = decoder.head(record.value())
            index, document_id, document = documents.make(event, time.time() * 1000)
            if os.environ.get("BENCH_IDS") == "random":
                document_id = secrets.token_urlsafe(15)
            full = builder.add(None, None, 0, index, document_id, document, 0.0)
            count += 1
            if full is not None:
                made.append(full.body())
    if len(builder):
        made.append(builder.take().body())
    return made, count


def post(address, waiting):
    """Post until nothing waits."""
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=300)
    while True:
        try:
            body = waiting.get_nowait()
        except queue.Empty:
            return
        connection.request(
            "POST",
            "/_bulk?filter_path=errors,items.*.error",
            body,
            {"content-type": "application/x-ndjson"},
        )
        answer = connection.getresponse().read()
        if json.loads(answer) != {"errors": False}:
            raise SystemExit(answer[:300])


def main():
    """Build, then post."""
    body_bytes, connections = map(int, sys.argv[1:])
    settings = load()
    made, count = bodies(settings, body_bytes)
    waiting = queue.SimpleQueue()
    for body in made:
        waiting.put(body)
    address = urlsplit(settings.elasticsearch_url)
    with ThreadPoolExecutor(connections) as pool:
        began = time.monotonic()
        posting = [pool.submit(post, address, waiting) for _ in range(connections)]
        for one in posting:
            one.result()
        seconds = time.monotonic() - began
    print(json.dumps({"documents": count, "seconds": seconds}))


if __name__ == "__main__":
    main()
