"""Owns the figures of a run: what each round measured, the goal beside it, and `bench.json`."""

from __future__ import annotations

import json
import operator
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))

AT_MOST, AT_LEAST = "at most", "at least"
GOALS: dict[str, tuple[str, float] | None] = {
    "cpu_us_per_doc_2kb": (AT_MOST, 16),
    "cpu_us_per_doc_500b": (AT_MOST, 10),
    "docs_per_s_stub_1_worker_1_core": None,
    "docs_per_s_stub_1_worker": None,
    "docs_per_s_stub_2_workers": (AT_LEAST, 85_000),
    "workers_1_to_2": (AT_LEAST, 1.9),
    "workers_1_to_2_unpinned": None,
    "late_events_throughput": (AT_LEAST, 0.98),
    "docs_per_s_late_events": None,
    "worker_rss_mb_late_events": (AT_MOST, 200),
    "start_to_first_document_s": (AT_MOST, 0.6),
    "whole_mb": (AT_MOST, 170),
    "further_worker_mb": (AT_MOST, 95),
    "whole_cpu_us_per_doc": (AT_MOST, 11),
    "workers_1_to_2_beside_elasticsearch": (AT_LEAST, 1.0),
    "worker_rss_mb_paused_2kb": (AT_MOST, 200),
    "worker_rss_mb_paused_1500kb": (AT_MOST, 260),
    "worker_rss_mb_paused_8mb": (AT_MOST, 400),
    "rebalance_longest_gap_s": (AT_MOST, 3.0),
    "worker_rss_mb": (AT_MOST, 200),
    "worker_rss_mb_outage": (AT_MOST, 200),
    "worker_rss_growth": (AT_MOST, 1.1),
    "dead_letter_cost": (AT_MOST, 0.10),
    "share_of_direct_bulk": (AT_LEAST, 0.65),
    "share_of_direct_bulk_pinned": (AT_LEAST, 0.97),
    "direct_bulk_docs_per_s": None,
    "direct_bulk_docs_per_s_pinned": None,
    "times_forty_lines": None,
    "hook_us_p50": (AT_MOST, 25),
    "hook_us_p99": (AT_MOST, 200),
    "hook_vs_dict_copy": (AT_MOST, 3),
    "attack_hook_ms": (AT_MOST, 5),
    "attack_pauses_ms": (AT_MOST, 100),
    "attack_memory_factor": (AT_MOST, 1.5),
    "hook_always_us_p50": None,
    "hook_always_us_p99": None,
    "producer_rss_mb": (AT_MOST, 25),
    "producer_rss_mb_most": None,
    "producer_cpu_us": (AT_MOST, 150),
    "producer_cpu_vs_generic_api": (AT_MOST, 0.5),
    "producer_cpu_vs_generic_api_array": None,
    "proxy_throughput_ratio": (AT_LEAST, 0.98),
    "proxy_p99_ratio": (AT_MOST, 1.02),
    "proxy_requests_per_cpu_ratio": None,
    "proxy_cpu_us": None,
    "proxy_throughput_ratio_kafka_down": (AT_LEAST, 0.98),
    "proxy_p99_ratio_kafka_down": (AT_MOST, 1.02),
    "proxy_requests_per_cpu_ratio_kafka_down": None,
    "proxy_cpu_us_kafka_down": None,
    "proxy_p50_ratio_paced": None,
    "proxy_p99_ratio_paced": (AT_MOST, 1.02),
    "proxy_p50_ratio_paced_kafka_down": None,
    "proxy_p99_ratio_paced_kafka_down": (AT_MOST, 1.02),
    "dlq_stats_letters_per_s": (AT_LEAST, 100_000),
    "dlq_stats_rss_mb": (AT_MOST, 100),
    "dlq_replay_vs_consume": (AT_LEAST, 0.9),
    "dlq_replay_vs_consume_pinned": (AT_LEAST, 0.9),
    "console_throughput_ratio": (AT_LEAST, 0.95),
    "console_slowest_page_s": (AT_MOST, 3.0),
}
MEANING = {
    "cpu_us_per_doc_2kb": "CPU of a worker for a document, 2,000 bytes each",
    "cpu_us_per_doc_500b": "the same, 500 bytes each",
    "docs_per_s_stub_1_worker_1_core": "one worker, broker and stub together on one core",
    "docs_per_s_stub_1_worker": "one worker; broker and stub have the other core",
    "docs_per_s_stub_2_workers": "two workers, broker and stub together on two cores",
    "workers_1_to_2": "two workers on two cores over one on one core; broker and stub with them",
    "workers_1_to_2_unpinned": "two workers over one, all on two cores",
    "late_events_throughput": "with 1% of events for indices that take none, over taking them",
    "docs_per_s_late_events": "documents a second of today, with these indices taking none",
    "worker_rss_mb_late_events": "the most memory that the worker had meanwhile",
    "start_to_first_document_s": "from the start of the command, with a backlog, against the stub",
    "whole_mb": "memory of supervisor, one worker and all else, at its most, 2 KB",
    "further_worker_mb": "what a second worker adds to that",
    "whole_cpu_us_per_doc": "CPU of the whole command, its start too, over 200,000 of 2 KB",
    "workers_1_to_2_beside_elasticsearch": "wall time of one worker over that of two, on two cores",
    "worker_rss_mb_paused_2kb": "the most memory of a worker in any paused state, 2 KB",
    "worker_rss_mb_paused_1500kb": "the same, 1.5 MB",
    "worker_rss_mb_paused_8mb": "the same, 8 MB",
    "rebalance_longest_gap_s": "a member comes and goes, 20% of 429s: how long the other idles",
    "worker_rss_mb": "the most memory that a worker had, consuming for seconds",
    "worker_rss_mb_outage": "the same, over millions of records and an outage of Elasticsearch",
    "worker_rss_growth": "memory in its last tenth over memory before the outage, medians",
    "proxy_requests_per_cpu_ratio": "the same of requests a second of CPU, all processes counted",
    "proxy_p99_ratio_paced": "the same of p99, at half of the requests that it can take",
    "producer_rss_mb": "more memory of a process with LiteLLM, after 20,000 events",
    "producer_rss_mb_most": "the same, at its most",
    "attack_hook_ms": "the worst time of a hook, of all attacks",
    "attack_pauses_ms": "the most that one payload takes from another thread, pauses over 20 ms",
    "attack_memory_factor": "memory that is counted over real, or real over counted",
    "proxy_cpu_us": "more CPU of a proxy for a request, with the callback than without",
    "dead_letter_cost": "more CPU for a document where one in a hundred dies, as a share",
    "share_of_direct_bulk": "throughput over direct _bulk, on the same cores as Elasticsearch",
    "share_of_direct_bulk_pinned": "the same, Elasticsearch on one core, all else on another",
    "dlq_replay_vs_consume": "throughput of a replay over a consumer's, on the same cores",
    "dlq_replay_vs_consume_pinned": "the same, Elasticsearch on one core, all else on another",
    "times_forty_lines": "throughput over forty lines of Python, same topic and Elasticsearch",
    "console_throughput_ratio": "documents a second beside ten people in the console, over alone",
    "console_slowest_page_s": "the slowest page of those ten, until its last part is there",
}
_HOLDS = {AT_MOST: operator.le, AT_LEAST: operator.ge}


class Figures:
    """What was measured, by name."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = defaultdict(list)
        self._why: dict[str, str] = {}

    def add(self, **measured: float) -> None:
        """Take one round's figures, and print them: a run may be stopped."""
        for name, value in measured.items():
            assert name in GOALS, name
            self._seen[name].append(value)
            print(f"    {name}: {value:.3f}", flush=True)

    def medians(self) -> dict[str, float]:
        """Return one number for each figure."""
        return {name: round(statistics.median(seen), 3) for name, seen in self._seen.items()}

    def explain(self, name: str, why: str) -> None:
        """Keep what explains a figure; it is printed where the goal is not reached."""
        self._why[name] = why.rstrip()

    def table(self) -> Iterator[str]:
        """Yield lines: median, spread, goal, whether it is reached; what explains those missed."""
        yield f"{'figure':36}{'median':>11}{'least':>11}{'most':>11}   goal"
        missed = []
        for name, seen in self._seen.items():
            median, goal = statistics.median(seen), GOALS[name]
            said = ""
            if goal is not None:
                reached = _HOLDS[goal[0]](median, goal[1])
                said = f"{goal[0]} {goal[1]:g}{'' if reached else '   NOT REACHED'}"
                missed += [] if reached else [name]
            yield f"{name:36}{median:11.2f}{min(seen):11.2f}{max(seen):11.2f}   {said}"
        for name in self._seen:
            if name in MEANING:
                yield f"{name:36}{MEANING[name]}"
        for name in missed:
            if name in self._why:
                yield f"\nnot reached: {name}\n{self._why[name]}"

    def write(self, path: Path) -> None:
        """Write the medians, beside those of parts that were not measured now."""
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | self.medians(), indent=2) + "\n")


def rounds() -> Iterator[int]:
    """Yield the number of each round."""
    for number in range(1, ROUNDS + 1):
        yield number
        print(f"  round {number} of {ROUNDS}", flush=True)
