"""What we rely on in LiteLLM: its hooks, its payload, its names; in each version installed.

Sources are parsed and not imported, so that a new version is looked at in a second:

    python3 -m venv .venvs/litellm-next && .venvs/litellm-next/bin/pip install litellm
    .venv/bin/python -m pytest tests/contract/test_litellm.py
"""

import ast
import inspect
from pathlib import Path

import pytest

from llmlog_producer.events import call_facts, completion
from llmlog_producer.pass_through import PassThroughFailures
from llmlog_producer.testing import recorder
from llmlog_schemas.derived.table import CALL_FACTS, DERIVED
from llmlog_schemas.fields import TYPED, UNTYPED

ENVIRONMENTS = sorted((Path(__file__).resolve().parents[2] / ".venvs").glob("litellm-*"))

LOG_HOOK = ["self", "kwargs", "response_obj", "start_time", "end_time"]
HOOKS = {
    "log_success_event": LOG_HOOK,
    "log_failure_event": LOG_HOOK,
    "async_log_success_event": LOG_HOOK,
    "async_log_failure_event": LOG_HOOK,
    "async_post_call_failure_hook": [
        "self", "request_data", "original_exception", "user_api_key_dict", "traceback_str",
    ],
}  # fmt: skip
PAYLOAD_BUILDER = [
    "kwargs", "init_response_obj", "start_time", "end_time", "logging_obj", "status", "error_str",
    "original_exception", "standard_built_in_tools_params",
]  # fmt: skip
OUR_FIELDS = {"call_origin", "end_user_object"}
"""Fields that no version of LiteLLM has."""

IN_EXTRA = {"cost_finalized", "classifier_input", "originating_request_masked"}
"""Fields of LiteLLM that are known, and kept under `extra`."""


@pytest.fixture(params=ENVIRONMENTS, ids=lambda path: path.name)
def litellm(request):
    """The folder of an installed LiteLLM."""
    found = list(request.param.glob("lib/python3*/site-packages/litellm"))
    assert found, f"{request.param} has no LiteLLM: run make litellm"
    return found[0]


def tree_of(litellm, path):
    """Return a source file of LiteLLM, parsed."""
    return ast.parse((litellm / path).read_text())


def class_of(litellm, path, name):
    """Return a class of a file."""
    classes = (node for node in tree_of(litellm, path).body if isinstance(node, ast.ClassDef))
    found = next((node for node in classes if node.name == name), None)
    assert found, f"{path} has no class {name} any more"
    return found


def functions_in(node):
    """Return the parameters of each function of a class or module, by its name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        one.name: [argument.arg for argument in (*one.args.args, *one.args.kwonlyargs)]
        for one in node.body
        if isinstance(one, kinds)
    }


def test_the_hooks_are_called_as_ours_are_declared(litellm):
    """They are called by keyword: a renamed parameter is an error that LiteLLM swallows."""
    theirs = functions_in(class_of(litellm, "integrations/custom_logger.py", "CustomLogger"))
    for name, expected in HOOKS.items():
        assert theirs.get(name) == expected, (
            f"{litellm}: the hook {name} takes {theirs.get(name)}, it took {expected}: change the "
            "one in callback.py and testing.py, or every event of it is lost"
        )


def test_ours_take_what_the_hooks_are_given():
    ours = inspect.getsource(recorder.__globals__["_Recorder"])
    declared = functions_in(ast.parse(ours).body[0])
    source = (Path(inspect.getfile(PassThroughFailures)).parent / "callback.py").read_text()
    handler = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef))
    for name, expected in HOOKS.items():
        assert functions_in(handler)[name] == expected
        assert name in declared


def test_the_payload_has_the_fields_that_are_mapped(litellm):
    path = "types/utils.py"
    payload = class_of(litellm, path, "StandardLoggingPayload")
    names = [base.id for base in payload.bases if isinstance(base, ast.Name)]
    parents = [class_of(litellm, path, name) for name in names if name != "TypedDict"]
    theirs = {
        line.target.id
        for one in (payload, *parents)
        for line in one.body
        if isinstance(line, ast.AnnAssign)
    }
    ours = {*TYPED, *UNTYPED} - OUR_FIELDS
    assert not ours - theirs, (
        f"{litellm}: the payload lost {sorted(ours - theirs)}: documents of this version lack them"
    )
    assert not theirs - ours - IN_EXTRA, (
        f"{litellm}: the payload has new fields, {sorted(theirs - ours - IN_EXTRA)}: they are kept "
        "under `extra` until fields.py and the index template have them (CONTRIBUTING.md); add "
        "them there, or to IN_EXTRA"
    )
    named = theirs & (OUR_FIELDS | DERIVED.keys() | {CALL_FACTS})
    assert not named, f"{litellm} has fields of our own, with another meaning perhaps: {named}"


def test_the_facts_beside_a_payload_are_where_they_were(litellm):
    sources = {path.name: path.read_text() for folder in (litellm, litellm / "proxy")
               for path in folder.glob("*.py")}  # fmt: skip
    sources |= {path.name: path.read_text() for path in (litellm / "router_utils").glob("*.py")}
    text = "".join(sources.values())
    for name in call_facts.OF_METADATA:
        assert f'"{name}"' in text, f"{litellm}: no call has {name} in its metadata any more"


def test_a_failed_pass_through_comes_as_it_did(litellm):
    source = (litellm / "proxy/utils.py").read_text()
    for name in ('("start_time",', '("call_type",', '("standard_logging_object",'):
        assert name in source, (
            f"{litellm}: {name} is not lifted into request_data any more: failed pass-through "
            "requests are recognised by these three (pass_through.py)"
        )
    passing = (litellm / "proxy/pass_through_endpoints/pass_through_endpoints.py").read_text()
    for text in (f'call_type="{completion.PASS_THROUGH}"', "passthrough_logging_payload"):
        assert text in passing, f"{litellm}: pass-through requests do not name {text} any more"
    logging = tree_of(litellm, "litellm_core_utils/litellm_logging.py")
    builder = functions_in(logging).get("get_standard_logging_object_payload")
    assert builder == PAYLOAD_BUILDER, (
        f"{litellm}: get_standard_logging_object_payload takes {builder}: failed pass-through "
        "requests have the minimal payload of pass_through.py until its call there is changed"
    )
    assert (
        not {"__eq__", "__hash__"}
        & functions_in(class_of(litellm, "litellm_core_utils/litellm_logging.py", "Logging")).keys()
    ), f"{litellm}: Logging objects are compared by value: two hooks are no longer paired"


def test_health_checks_have_the_alias_that_they_had(litellm):
    source = (litellm / "constants.py").read_text()
    assert '"litellm-internal-health-check"' in source, (
        f"{litellm}: health checks have another key alias: completion.py marks none of them"
    )
    user = (litellm / "proxy/_types.py").read_text()
    moved = litellm / "types/proxy/auth/user_api_key_auth.py"
    user += moved.read_text() if moved.exists() else ""
    assert "key_alias=LITTELM_INTERNAL_HEALTH_SERVICE_ACCOUNT_NAME" in user
