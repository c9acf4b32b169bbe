"""Owns the checks of Elasticsearch before anything is indexed or installed there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlog_common.errors import ElasticsearchError
from llmlog_consumer.elasticsearch.connection import NOT_FOUND

if TYPE_CHECKING:
    from llmlog_consumer.elasticsearch.connection import Elastic

_BACKING_INDEX = ".ds-"


def require_alias(elastic: Elastic, alias: str) -> None:
    """Check that the alias's name is an alias, or free.

    Raises:
        ElasticsearchError: a plain index has it, as LiteLLM's older guide created it, or a data
            stream has it.
        ElasticsearchUnreachable: no node answers.
    """
    indices = elastic.find(f"/{alias}/_mapping") or {}
    if alias in indices:
        raise ElasticsearchError(
            f"{alias} is a plain index, where the alias of the daily indices belongs: keep its "
            f"documents with `POST _reindex` into {alias}-legacy, delete {alias}, then run "
            "`pipeline setup`; or set LLMLOG_INDEX to another name"
        )
    if any(index.startswith(f"{_BACKING_INDEX}{alias}-") for index in indices):
        raise ElasticsearchError(
            f"{alias} is a data stream, where the alias of the daily indices belongs: set "
            "LLMLOG_INDEX to another name; or keep its documents with `POST _reindex` into "
            f"{alias}-legacy, `DELETE _data_stream/{alias}`, then run `pipeline setup`"
        )


def require_template(elastic: Elastic, alias: str) -> None:
    """Check that setup was run.

    Raises:
        ElasticsearchError: the index template is missing, or the alias's name is taken.
        ElasticsearchUnreachable: no node answers.
    """
    require_alias(elastic, alias)
    if elastic.request("GET", f"/_index_template/{alias}").status == NOT_FOUND:
        raise ElasticsearchError(f"index template {alias} is missing: run `pipeline setup`")
