"""The profile of all property tests, loaded at import.

A deadline on an example fails on a busy machine and says nothing about the code.
"""

import hypothesis

hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")
