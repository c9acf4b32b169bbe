"""A callback that does nothing: what any callback costs a gateway."""

from litellm.integrations.custom_logger import CustomLogger


class Idle(CustomLogger):
    """Takes every event and leaves it."""

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        """Do nothing."""

    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        """Do nothing."""


idle = Idle()
