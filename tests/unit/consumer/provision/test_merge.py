"""Mappings become one: our fields are added, and what a user has there stays."""

from llmlog_consumer.provision import templates
from llmlog_consumer.provision.merge import missing_fields, overlay

KEYWORD, TEXT = {"type": "keyword"}, {"type": "text"}


def group(**fields):
    return {"properties": fields}


def test_an_old_index_is_given_what_it_lacks_and_nothing_else():
    existing = {"a": TEXT, "user": group(name=KEYWORD), "error": KEYWORD}
    ours = {"a": KEYWORD, "b": KEYWORD, "user": group(name=TEXT, id=KEYWORD),
            "error": group(type=KEYWORD)}  # fmt: skip
    assert missing_fields(existing, ours) == {"b": KEYWORD, "user": group(id=KEYWORD)}
    assert missing_fields(ours, ours) == {}


def test_a_field_named_type_is_a_field():
    merged = overlay(group(own=KEYWORD), group(type=KEYWORD))
    assert merged == group(own=KEYWORD, type=KEYWORD)
    assert overlay(KEYWORD, TEXT) == TEXT


def test_a_users_field_keeps_its_name_from_our_aliases():
    ours = templates.index_template("logs")
    existing = {"template": {"mappings": group(error=KEYWORD, own=TEXT)}}
    properties = templates.merge_template(existing, ours)["template"]["mappings"]["properties"]
    assert properties["error"] == KEYWORD
    assert properties["own"] == TEXT
    assert "user" in properties
