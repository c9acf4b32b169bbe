"""What each answer of Elasticsearch means: one row here for each row of the table."""

import pytest

from llmlog_consumer.elasticsearch.error_rules import (
    BROKEN_ANSWER,
    CUT_OFF,
    FOREIGN_PAGE,
    MANY,
    TIMED_OUT,
    Disposition,
    judge_item,
    judge_request,
)

INDEXED = Disposition.INDEXED
DUPLICATE = Disposition.DUPLICATE
RETRY = Disposition.RETRY
BISECT = Disposition.BISECT
CHECK = Disposition.CHECK
DROPPED = Disposition.DROPPED
PERMANENT = Disposition.PERMANENT
CONFIGURATION = Disposition.CONFIGURATION

FLOOD = (
    "index [litellm-logs-2026.01.01] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded "
    "flood-stage watermark, index has read-only-allow-delete block; for more information, see "
    "https://www.elastic.co/docs];"
)
READ_ONLY = "index [litellm-logs-2026.01.01] blocked by: [FORBIDDEN/5/index read-only (api)];"
CLOSED_WRITE = "index [litellm-logs-2026.01.01] blocked by: [FORBIDDEN/8/index write (api)];"
METADATA = "index [litellm-logs-2026.01.01] blocked by: [FORBIDDEN/9/index metadata (api)];"
NO_MASTER = "blocked by: [SERVICE_UNAVAILABLE/2/no master];"
NOT_RECOVERED = "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];"
QUEUE_FULL = (
    "rejected execution of org.elasticsearch.action.bulk.TransportShardBulkAction@1 on "
    "EsThreadPoolExecutor[name = node-1/write, queue capacity = 10000, pool size = 8]"
)
COORDINATING_BYTES = (
    "rejected execution of coordinating operation [coordinating_and_primary_bytes={all}, "
    "replica_bytes=0, all_bytes={all}, coordinating_operation_bytes={ours}, "
    "max_coordinating_and_primary_bytes={limit}]"
)
BUSY_BYTES = COORDINATING_BYTES.format(all=107_000_000, ours=4_000_000, limit=107_374_182)
TOO_MANY_BYTES = COORDINATING_BYTES.format(all=107_374_183, ours=107_374_183, limit=107_374_182)
PRIMARY_BYTES = (
    "rejected execution of primary operation [coordinating_and_primary_bytes=200, "
    "replica_bytes=0, all_bytes=200, primary_operation_bytes=200, "
    "max_coordinating_and_primary_bytes=100]"
)
TOO_MANY_SHARDS = (
    "Validation Failed: 1: this action would add [2] shards, but this cluster currently has "
    "[1000]/[1000] maximum normal shards open;"
)

ITEMS = [
    # status, error.type, error.reason, disposition
    (200, None, None, DROPPED),
    (201, None, None, INDEXED),
    (409, "version_conflict_engine_exception", "[a]: version conflict", DUPLICATE),
    (429, "es_rejected_execution_exception", QUEUE_FULL, RETRY),
    (429, "es_rejected_execution_exception", BUSY_BYTES, RETRY),
    (429, "es_rejected_execution_exception", TOO_MANY_BYTES, BISECT),
    (429, "es_rejected_execution_exception", PRIMARY_BYTES, BISECT),
    (429, "cluster_block_exception", FLOOD, RETRY),
    (403, "cluster_block_exception", FLOOD, RETRY),
    (429, "process_cluster_event_timeout_exception", "failed to process cluster event", RETRY),
    (503, "process_cluster_event_timeout_exception", "failed to process cluster event", RETRY),
    (503, "unavailable_shards_exception", "[i][0] primary shard is not active", RETRY),
    (503, "no_shard_available_action_exception", "No shard available for [x]", RETRY),
    (500, "node_closed_exception", "node closed {node-1}", RETRY),
    (503, "node_closed_exception", "node closed {node-1}", RETRY),
    (500, "node_disconnected_exception", "[node-1] disconnected", RETRY),
    (503, "node_disconnected_exception", "[node-1] disconnected", RETRY),
    (503, "master_not_discovered_exception", None, RETRY),
    (503, "cluster_block_exception", NO_MASTER, RETRY),
    (503, "cluster_block_exception", NOT_RECOVERED, RETRY),
    (503, "mapper_exception", "timed out while waiting for a dynamic mapping update", RETRY),
    (500, "mapper_exception", "timed out while waiting for a dynamic mapping update", RETRY),
    (403, "cluster_block_exception", READ_ONLY, CONFIGURATION),
    (403, "cluster_block_exception", CLOSED_WRITE, CONFIGURATION),
    (403, "cluster_block_exception", METADATA, CONFIGURATION),
    (401, "security_exception", "missing authentication credentials", CONFIGURATION),
    (403, "security_exception", "action [indices:data/write/bulk] is unauthorized", CONFIGURATION),
    (404, "index_not_found_exception", "no such index [x] and [auto_create]", CONFIGURATION),
    (400, "index_closed_exception", "closed", CONFIGURATION),
    (400, "illegal_argument_exception",
     "no write index is defined for alias [litellm-logs]. The write index may be explicitly "
     "disabled using is_write_index=false", CONFIGURATION),
    (400, "validation_exception", TOO_MANY_SHARDS, CONFIGURATION),
    (400, "illegal_argument_exception",
     "only write ops with an op_type of create are allowed in data streams", CONFIGURATION),
    (400, "invalid_alias_name_exception",
     "Invalid alias name [litellm-logs]: an index or data stream exists with the same name as the "
     "alias", CONFIGURATION),
    (400, "illegal_argument_exception", "pipeline with id [ours] does not exist", CONFIGURATION),
    (400, "document_parsing_exception", "[1:2] failed to parse field [a] of type [long]",
     PERMANENT),
    (400, "mapper_parsing_exception", "failed to parse", PERMANENT),
    (400, "strict_dynamic_mapping_exception", "mapping set to strict", PERMANENT),
    (400, "illegal_argument_exception",
     'Document contains at least one immense term in field="model" (whose UTF8 encoding is '
     "longer than the max length 32766)", PERMANENT),
    (400, "document_parsing_exception",
     '[1:2] Document contains at least one immense term in field="model"', PERMANENT),
    (400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded",
     PERMANENT),
    (400, "illegal_argument_exception",
     "mapper [model] cannot be changed from type [text] to [keyword]", PERMANENT),
    (400, "illegal_argument_exception", "if _id is specified it must not be empty", PERMANENT),
    (400, "invalid_index_name_exception", "Invalid index name [X], must be lowercase", PERMANENT),
]  # fmt: skip


def error_of(error_type, reason, **more):
    return None if error_type is None else {"type": error_type, "reason": reason, **more}


@pytest.mark.parametrize(("status", "error_type", "reason", "disposition"), ITEMS)
def test_each_item_rule_decides_its_answer(status, error_type, reason, disposition):
    verdict = judge_item(status, error_of(error_type, reason))
    assert verdict.disposition is disposition
    assert not verdict.unclassified
    assert not verdict.bounded


@pytest.mark.parametrize(("status", "error_type", "reason", "disposition"), ITEMS)
def test_a_cause_is_never_read(status, error_type, reason, disposition):
    """It quotes the document; here it keeps of everything at once."""
    words = " ".join(str(row[2]) for row in ITEMS)
    error = error_of(error_type, reason, caused_by={"type": "security_exception", "reason": words})
    assert judge_item(status, error).disposition is disposition


@pytest.mark.parametrize("status", [500, 501, 505, 599])
@pytest.mark.parametrize("error_type", ["exception", "null_pointer_exception"])
def test_other_server_errors_of_an_item_are_tried_a_bounded_number_of_times(status, error_type):
    verdict = judge_item(status, error_of(error_type, "what"))
    assert verdict.disposition is RETRY
    assert verdict.bounded


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_node_that_is_away_is_tried_again_without_bound(status):
    verdict = judge_item(status, error_of("exception", "what"))
    assert verdict.disposition is RETRY
    assert not verdict.bounded


@pytest.mark.parametrize("status", [400, 404, 405, 410, 413, 418, 499])
def test_an_unknown_refusal_is_permanent_and_counted(status):
    verdict = judge_item(status, error_of("brand_new_exception", "what"))
    assert verdict.disposition is PERMANENT
    assert verdict.unclassified


def test_an_illegal_argument_that_no_row_matches_is_permanent_and_counted():
    verdict = judge_item(400, error_of("illegal_argument_exception", "something else"))
    assert verdict.disposition is PERMANENT
    assert verdict.unclassified


@pytest.mark.parametrize("status", [0, 100, 302, 600])
def test_an_unknown_status_is_retried_within_bounds_and_counted(status):
    for error in (None, error_of("brand_new_exception", "what")):
        verdict = judge_item(status, error)
        assert verdict.disposition is RETRY
        assert verdict.bounded
        assert verdict.unclassified


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_a_failure_without_an_error_is_never_taken_for_success(status):
    assert judge_item(status, None).disposition is not INDEXED


@pytest.mark.parametrize("error", [{}, {"type": None, "reason": None}, {"reason": "what"}])
def test_an_error_without_its_usual_members_is_judged_by_its_status(error):
    assert judge_item(400, error).disposition is PERMANENT
    assert judge_item(429, error).disposition is RETRY
    assert judge_item(500, error).bounded


# Reasons quote the document: its words are not Elasticsearch's.

SPOKEN = [row for row in ITEMS if row[2] and row[3] in (CONFIGURATION, RETRY, BISECT)]


@pytest.mark.parametrize("error_type", ["document_parsing_exception", "mapper_parsing_exception"])
@pytest.mark.parametrize("prompt", [row[2] for row in SPOKEN])
def test_a_prompt_that_quotes_a_configuration_error_pauses_nothing(error_type, prompt):
    for reason in (
        prompt,
        f"failed to parse field [x] of type [long] in document with id 'a'. Preview of field's "
        f"value: '{prompt}'",
    ):
        verdict = judge_item(400, error_of(error_type, reason))
        assert verdict.disposition is PERMANENT
        assert not verdict.unclassified


@pytest.mark.parametrize("prompt", [row[2] for row in SPOKEN])
def test_an_illegal_argument_is_judged_by_the_start_of_its_reason(prompt):
    for start in ("Document contains at least one immense term: '", "mapper [x] cannot: '"):
        verdict = judge_item(400, error_of("illegal_argument_exception", start + prompt))
        assert verdict.disposition is PERMANENT
    verdict = judge_item(400, error_of("illegal_argument_exception", f"cannot use [{prompt}]"))
    assert verdict.disposition is PERMANENT


def test_a_reason_counts_for_its_own_type_only():
    for error_type in ("validation_exception", "action_request_validation_exception"):
        reason = "no write index is defined for alias [litellm-logs]"
        assert judge_item(400, error_of(error_type, reason)).disposition is PERMANENT
    assert judge_item(400, error_of("illegal_argument_exception", TOO_MANY_SHARDS)).unclassified


def test_other_validation_errors_are_no_configuration():
    reason = "Validation Failed: 1: this action would add something, maximum shards open;"
    assert judge_item(400, error_of("validation_exception", reason)).disposition is PERMANENT


# Push-back


@pytest.mark.parametrize(
    ("status", "error_type", "reason", "pushed_back"),
    [
        (429, "es_rejected_execution_exception", QUEUE_FULL, True),
        (429, "circuit_breaking_exception", "[parent] Data too large", True),
        (429, "brand_new_exception", "slow down", True),
        (429, "cluster_block_exception", FLOOD, False),
        (503, "unavailable_shards_exception", "not active", False),
        (201, None, None, False),
        (400, "document_parsing_exception", "failed", False),
    ],
)
def test_push_back_is_told_from_other_answers(status, error_type, reason, pushed_back):
    assert judge_item(status, error_of(error_type, reason)).pushed_back is pushed_back


@pytest.mark.parametrize("judge", [judge_item, judge_request])
def test_the_limit_itself_is_not_above_the_limit(judge):
    at_the_limit = COORDINATING_BYTES.format(all=900, ours=100, limit=100)
    beyond = COORDINATING_BYTES.format(all=900, ours=101, limit=100)
    error_type = "es_rejected_execution_exception"
    assert judge(429, error_of(error_type, at_the_limit)).disposition is RETRY
    assert judge(429, error_of(error_type, beyond)).disposition is BISECT


@pytest.mark.parametrize("judge", [judge_item, judge_request])
def test_a_limit_without_the_bytes_of_the_operation_says_nothing_about_its_size(judge):
    error = error_of("es_rejected_execution_exception", "rejected [max_primary_bytes=0]")
    assert judge(429, error).disposition is RETRY


@pytest.mark.parametrize("judge", [judge_item, judge_request])
@pytest.mark.parametrize(
    ("more", "disposition"),
    [
        ({"durability": "TRANSIENT", "bytes_wanted": 50, "bytes_limit": 100}, RETRY),
        ({"durability": "PERMANENT", "bytes_wanted": 50, "bytes_limit": 100}, BISECT),
        ({"durability": "TRANSIENT", "bytes_wanted": 101, "bytes_limit": 100}, BISECT),
        ({"durability": "TRANSIENT", "bytes_wanted": 100, "bytes_limit": 100}, RETRY),
        ({"durability": "TRANSIENT", "bytes_wanted": 5, "bytes_limit": 1}, BISECT),
        ({"durability": "TRANSIENT", "bytes_wanted": 5, "bytes_limit": 0}, RETRY),
        ({"durability": "TRANSIENT"}, RETRY),
        ({}, RETRY),
    ],
)
def test_a_circuit_breaker_that_waiting_cannot_close_bisects(judge, more, disposition):
    reason = "[request] Data too large, data for [<http_request>] would be larger than the limit"
    verdict = judge(429, error_of("circuit_breaking_exception", reason, **more))
    assert verdict.disposition is disposition
    assert verdict.pushed_back is (disposition is RETRY)


def test_the_parent_breaker_counts_the_bytes_of_all_requests():
    """Its wants are above the limit whenever the node is busy, however small our request is."""
    error = error_of(
        "circuit_breaking_exception",
        "[parent] Data too large, data for [<http_request>] would be [1.2gb]",
        bytes_wanted=1_200, bytes_limit=1_000, durability="TRANSIENT",
    )  # fmt: skip
    assert judge_item(429, error).disposition is RETRY
    assert judge_item(429, {**error, "durability": "PERMANENT"}).disposition is RETRY


# Whole requests

REQUESTS = [
    # status, error.type, disposition, the step where the control is refused too, patience, of size
    (429, "es_rejected_execution_exception", RETRY, None, 1, False),
    (429, None, RETRY, None, 1, False),
    (413, None, CHECK, CONFIGURATION, 1, True),
    (413, "content_too_long_exception", CHECK, CONFIGURATION, 1, True),
    # Elasticsearch's own
    (502, "exception", RETRY, None, 1, False),
    (503, "master_not_discovered_exception", RETRY, None, 1, False),
    (504, "timeout_exception", CHECK, RETRY, 2, True),
    (500, "node_closed_exception", RETRY, None, 1, False),
    (500, "exception", CHECK, CONFIGURATION, MANY, False),
    (507, "exception", CHECK, CONFIGURATION, MANY, False),
    (400, "illegal_argument_exception", BISECT, None, 1, False),
    (400, "x_content_parse_exception", BISECT, None, 1, False),
    (400, "action_request_validation_exception", BISECT, None, 1, False),
    (400, "media_type_header_exception", CONFIGURATION, None, 1, False),
    (406, "media_type_header_exception", CONFIGURATION, None, 1, False),
    (401, "security_exception", CONFIGURATION, None, 1, False),
    (403, "security_exception", CONFIGURATION, None, 1, False),
    (404, "index_not_found_exception", CONFIGURATION, None, 1, False),
    # of something in its place
    (301, None, CHECK, CONFIGURATION, 1, False),
    (302, None, CHECK, CONFIGURATION, 1, False),
    (308, None, CHECK, CONFIGURATION, 1, False),
    (400, None, CHECK, CONFIGURATION, 1, False),
    (401, None, CHECK, CONFIGURATION, 1, False),
    (403, None, CHECK, CONFIGURATION, 1, False),
    (404, None, CHECK, CONFIGURATION, 1, False),
    (405, None, CHECK, CONFIGURATION, 1, False),
    (406, None, CHECK, CONFIGURATION, 1, False),
    (407, None, CHECK, CONFIGURATION, 1, False),
    (411, None, CHECK, CONFIGURATION, 1, False),
    (418, None, CHECK, CONFIGURATION, 1, False),
    (421, None, CHECK, CONFIGURATION, 1, False),
    (451, None, CHECK, CONFIGURATION, 1, False),
    (501, None, CHECK, CONFIGURATION, 1, False),
    (500, None, CHECK, CONFIGURATION, MANY, False),
    (507, None, CHECK, CONFIGURATION, MANY, False),
    (502, None, CHECK, RETRY, 3, False),
    (503, None, CHECK, RETRY, 3, False),
    (520, None, CHECK, RETRY, 3, False),
    (530, None, CHECK, RETRY, 3, False),
    (408, None, CHECK, RETRY, 2, True),
    (460, None, CHECK, RETRY, 2, True),
    (499, None, CHECK, RETRY, 2, True),
    (504, None, CHECK, RETRY, 2, True),
    (524, None, CHECK, RETRY, 2, True),
]


@pytest.mark.parametrize(
    ("status", "error_type", "disposition", "then", "patience", "of_size"), REQUESTS
)
def test_each_request_rule_decides_its_answer(
    status, error_type, disposition, then, patience, of_size
):
    verdict = judge_request(status, error_of(error_type, "reason"))
    assert verdict.disposition is disposition
    assert then is None or verdict.then is then
    assert (verdict.patience, verdict.of_size) == (patience, of_size)
    assert verdict.pushed_back is (status == 429)
    assert not verdict.unclassified


def test_what_is_elasticsearchs_own_is_told_by_the_type_of_its_error():
    """The same status, of a firewall: it says nothing about the credentials."""
    own = judge_request(403, error_of("security_exception", "no"))
    assert "credentials" in own.advice
    for error in (None, {}, {"type": ""}, {"type": None}, {"reason": "blocked"}):
        foreign = judge_request(403, error)
        assert "credentials" not in foreign.advice
        assert "a proxy or a firewall" in foreign.advice


@pytest.mark.parametrize("status", [100, 304 + 300, 999])
def test_a_status_of_a_request_that_no_row_matches_is_counted(status):
    verdict = judge_request(status, None)
    assert verdict.unclassified
    assert (verdict.disposition, verdict.patience) == (CHECK, MANY)


@pytest.mark.parametrize("verdict", [CUT_OFF, TIMED_OUT])
def test_no_answer_is_waited_for_and_may_be_a_matter_of_size(verdict):
    assert (verdict.disposition, verdict.then, verdict.of_size) == (CHECK, RETRY, True)
    assert verdict.patience > 1


@pytest.mark.parametrize(
    ("status", "reason", "disposition"),
    [
        (429, TOO_MANY_BYTES, BISECT),
        (429, PRIMARY_BYTES, BISECT),
        (429, BUSY_BYTES, RETRY),
        (429, QUEUE_FULL, RETRY),
    ],
)
def test_a_whole_request_can_be_above_the_limit_itself(status, reason, disposition):
    error = error_of("es_rejected_execution_exception", reason)
    assert judge_request(status, error).disposition is disposition


@pytest.mark.parametrize(("verdict", "patience"), [(BROKEN_ANSWER, MANY), (FOREIGN_PAGE, 1)])
def test_an_answer_without_its_items_is_retried_and_then_pauses(verdict, patience):
    assert verdict.disposition is CHECK
    assert verdict.patience == patience
    assert verdict.then is CONFIGURATION
    assert verdict.advice


def test_a_bounded_retry_of_a_document_ends_as_a_dead_letter():
    assert judge_item(500, error_of("exception", "what")).then is PERMANENT
    assert judge_item(600, None).then is PERMANENT


def test_a_refused_request_never_rejects_a_document():
    """Only an answer about one document may end as a letter; halving finds that document."""
    for status in range(100, 600):
        if not 200 <= status < 300:
            assert judge_request(status, None).disposition in (
                RETRY, BISECT, CHECK, CONFIGURATION,
            )  # fmt: skip


def test_every_configuration_error_says_what_to_do():
    for status, error_type, reason, disposition in ITEMS:
        if disposition is CONFIGURATION:
            assert judge_item(status, error_of(error_type, reason)).advice
    for status, error_type, disposition, then, *_ in REQUESTS:
        if CONFIGURATION in (disposition, then):
            assert judge_request(status, error_of(error_type, "")).advice


@pytest.mark.parametrize(
    "bytes_of", [{"bytes_wanted": "many", "bytes_limit": 0.5}, {"bytes_wanted": 5}]
)
def test_limits_that_are_no_numbers_do_not_count(bytes_of):
    error = {"type": "circuit_breaking_exception", "reason": "[request] x", **bytes_of}
    assert judge_request(429, error).disposition is Disposition.RETRY


def test_a_number_that_is_no_number_of_bytes_is_read_by_no_rule():
    reason = f"x [coordinating_operation_bytes={'9' * 5000}, max_coordinating_bytes=1]"
    error = {"type": "es_rejected_execution_exception", "reason": reason}
    assert judge_item(429, error).disposition is Disposition.RETRY
