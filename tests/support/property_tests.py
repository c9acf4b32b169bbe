"""The profile of all property tests, loaded at import.

A deadline on an example fails on a busy machine and says nothing about the code.
"""

import hypothesis

from llmlog_consumer import backoff

hypothesis.register_random(backoff.RANDOM)  # else a wait in an example would differ each time
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")
