"""What people write first: consume, decode, `helpers.streaming_bulk`, commit.

Reads `LLMLOG_…` for names; prints documents and seconds as JSON, timed from the first record on.
"""

import io
import json
import os
import time
from pathlib import Path

import fastavro
from confluent_kafka import Consumer
from elasticsearch import Elasticsearch
from elasticsearch.helpers import streaming_bulk

ROOT = Path(__file__).parents[3]
schema = fastavro.parse_schema(
    json.loads((ROOT / "schemas/llmlog_schemas/avro/llm_event.v2.avsc").read_text())
)
topic, index = os.environ["LLMLOG_TOPIC"], os.environ["LLMLOG_INDEX"]
total = int(topic.rpartition("-")[2])
consumer = Consumer({
    "bootstrap.servers": os.environ["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"], "group.id": index,
    "auto.offset.reset": "earliest", "enable.auto.commit": False,
})  # fmt: skip
consumer.subscribe([topic])
elastic = Elasticsearch(os.environ["LLMLOG_ELASTICSEARCH_URL"])
began = 0.0


def documents():
    """Yield what goes into the index."""
    global began  # noqa: PLW0603 - as people write it
    taken = 0
    while taken < total:
        for message in consumer.consume(1000, 1.0):
            began = began or time.monotonic()
            event = fastavro.schemaless_reader(io.BytesIO(message.value()[10:]), schema)
            document = json.loads(event["document"])
            day = time.strftime("%Y.%m.%d", time.gmtime(event["start_time_ms"] / 1000))
            yield {"_op_type": "create", "_index": f"{index}-{day}", "_id": event["event_id"],
                   **document}  # fmt: skip
            taken += 1


done = 0
for _ok, _item in streaming_bulk(elastic, documents(), chunk_size=1000, raise_on_error=False):
    done += 1
    if done % 10_000 == 0:
        consumer.commit()
consumer.commit()
print(json.dumps({"documents": done, "seconds": time.monotonic() - began}))
