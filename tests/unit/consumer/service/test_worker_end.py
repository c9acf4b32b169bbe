"""Why a worker ended, in words."""

import pytest

from llmlog_consumer.service.worker_end import describe_end


@pytest.mark.parametrize(
    ("code", "said", "limit", "words"),
    [
        (3, "another member uses host-0", None, "another member uses host-0"),
        (-9, "", 300_000_000, "killed with signal 9, not by us: probably out of memory "
         "(the container's limit is 300 MB)"),
        (-9, "", None, "(no limit of a container was found, see the kernel's log)"),
        (-6, "", None, "ended by signal 6 (SIGABRT): a library gave up"),
        (-11, "", None, "ended by signal 11 (SIGSEGV), not by us"),
        (-200, "", None, "ended by signal 200 (unknown)"),
        (255, "", None, "ended with the process that workers are forked from"),
        (7, "", None, "ended with code 7: see its last lines on stderr"),
        (None, "", None, "ended with code None"),
    ],
)  # fmt: skip
def test_the_end_of_a_worker_is_said(code, said, limit, words):
    assert words in describe_end(code, said, limit)
