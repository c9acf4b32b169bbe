"""Where a worker's microseconds go: one worker in this process, its stages timed.

Reads `LLMLOG_…`; prints a table. CPU time of threads, taken once a chunk or a request, so that the
timing itself costs nothing to speak of.
"""

import functools
import itertools
import time
from collections import Counter

from llmlog_common.settings import load
from llmlog_consumer import gc_tuning
from llmlog_consumer import log_setup as logs
from llmlog_consumer.delivery.bulk_sender import BulkSender
from llmlog_consumer.delivery.pipeline import Delivery
from llmlog_consumer.delivery.results import BulkResults
from llmlog_consumer.elasticsearch.batch import BatchBuilder
from llmlog_consumer.elasticsearch.bulk import BulkClient
from llmlog_consumer.elasticsearch.document import Documents
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.consumer import GroupConsumer
from llmlog_consumer.kafka.offsets import KafkaOffsets
from llmlog_consumer.worker.task import Task
from llmlog_consumer.worker.worker import Worker
from llmlog_schemas.codec import Decoder

STAGES = (
    (GroupConsumer, "consume", "take records from librdkafka"),
    (Worker, "_register", "register spans"),
    (Delivery, "_decode_incoming", "decode, make documents, batch"),
    (BulkSender, "send", "hand requests over"),
    (BulkClient, "send", "post requests, read and match answers"),
    (BulkResults, "handle", "settle what was answered"),
    (Worker, "_commit", "commit"),
)
ALONE = 20_000

spent: Counter[str] = Counter()


def timed(label, method):
    """Count what a method costs its thread."""

    @functools.wraps(method)
    def run(*arguments, **options):
        began = time.thread_time()
        try:
            found = method(*arguments, **options)
            return list(found) if label == "register spans" else found
        finally:
            spent[label] += time.thread_time() - began

    return run


def alone(settings, ranges):
    """Return what decoding, the document and the batch cost each, in µs."""
    read = topic_reader.read(settings, settings.topic, ranges)
    records = list(itertools.islice(itertools.chain.from_iterable(read), ALONE))
    read.close()
    decoder, documents = Decoder(), Documents(settings.index, settings.max_event_age)
    builder, now = BatchBuilder(), time.time() * 1000
    steps = {}
    began = time.thread_time()
    values = [record.value() for record in records]
    steps["  of it: value()"] = time.thread_time() - began
    began = time.thread_time()
    events = [decoder.head(value) for value in values]
    steps["  of it: Avro"] = time.thread_time() - began
    began = time.thread_time()
    made = [documents.make(event, now) for event in events]
    steps["  of it: document"] = time.thread_time() - began
    began = time.thread_time()
    for record, (index, document_id, document) in zip(records, made, strict=True):
        builder.add(None, record, 0, index, document_id, document, 0.0)
    steps["  of it: batch"] = time.thread_time() - began
    return {label: seconds / len(records) * 1e6 for label, seconds in steps.items()}


def main():
    """Consume the topic with one worker."""
    settings = load()
    logs.configure()
    gc_tuning.tune()
    ranges = KafkaOffsets(KafkaAdmin(settings)).ranges_since(settings.topic, None)
    number = sum(end - start for start, end in ranges.values())
    steps = alone(settings, ranges)
    KafkaOffsets(KafkaAdmin(settings)).commit_start(settings.topic, ranges, latest=False)
    for owner, name, label in STAGES:
        setattr(owner, name, timed(label, getattr(owner, name)))
    until = {partition: end for partition, (_, end) in ranges.items()}
    worker = Worker(settings, Task(dlq_partitions=8, until=until), lambda: False)
    process, thread = time.process_time(), time.thread_time()
    worker.run()
    process, thread = time.process_time() - process, time.thread_time() - thread
    assert worker.counts["indexed"] == number, worker.counts
    in_threads = spent["post requests, read and match answers"]
    rows = dict(spent)
    rows["the rest of the loop"] = thread - sum(spent.values()) + in_threads
    rows["librdkafka's threads, and hand-over"] = process - thread - in_threads
    print(f"{settings.topic}: µs of CPU a document, one worker")
    for label, seconds in rows.items():
        print(f"  {label:40}{seconds / number * 1e6:7.2f}")
        if label.startswith("decode"):
            for step, microseconds in steps.items():
                print(f"  {step:40}{microseconds:7.2f}   (alone)")
    print(f"  {'together':40}{process / number * 1e6:7.2f}")


if __name__ == "__main__":
    main()
