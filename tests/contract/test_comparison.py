"""Two pages: each field of Elastic's integration is ours, or has a reason; questions."""

from pathlib import Path

from llmlog_schemas.derived.aliases import ALIASES
from llmlog_schemas.fields import DOCUMENT
from support import questions
from support.comparison import LACKED, OURS, PAGE, SOURCE, page

LIST = Path(__file__).parent / "data" / "elastic_lite_llm_fields.txt"


def test_every_field_of_theirs_is_ours_or_has_a_reason():
    lines = LIST.read_text().splitlines()
    theirs = [line for line in lines if not line.startswith("#")]
    assert SOURCE.rpartition(" ")[2] in LIST.read_text()
    assert len(theirs) == len(set(theirs)) > 80
    assert set(theirs) == OURS.keys() | LACKED.keys()
    assert not OURS.keys() & LACKED.keys()


def test_what_stands_for_theirs_is_a_field_of_documents():
    assert set(OURS.values()) <= DOCUMENT.keys() | ALIASES.keys()


def test_the_page_is_made_of_the_tables():
    assert PAGE.read_text() == page(), "run `python tests/support/comparison.py`"


def test_the_page_of_questions_is_made_of_them():
    assert questions.PAGE.read_text() == questions.page(), "run `python tests/support/questions.py`"
