"""Groups and periods, as settings have them: whatever is written, the wrong entry is named."""

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.errors import ConfigurationError
from llmlog_common.groups import GROUP, PERIODS, PLACE, make_place, parse_ages, parse_groups
from llmlog_common.settings import load


def test_teams_are_mapped_to_groups_by_their_ids():
    groups = load(environ={"LLMLOG_INDEX_GROUPS": " t-1 = pay, a=b=pay ,t-2=legal_7"}).index_groups
    assert groups == {"t-1": "pay", "a=b": "pay", "t-2": "legal_7"}


def test_a_file_may_hold_a_list(tmp_path):
    file = tmp_path / "pipeline.toml"
    file.write_text('index_groups = ["a, b=pay"]\ngroup_max_event_age = ["pay=30 days"]\n')
    settings = load(environ={}, config=file)
    assert settings.index_groups == {"a, b": "pay"}
    assert settings.max_age_of("pay") == timedelta(days=30)
    assert settings.max_age_of("") == settings.max_age_of("legal") == timedelta(days=400)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t-1", "entry 1 ('t-1'): write it as TEAM_ID=GROUP"),
        ("a=b,=pay", "entry 2 ('=pay'): write it as TEAM_ID=GROUP"),
        ("a=", "entry 1 ('a='): write it as TEAM_ID=GROUP"),
        ("a=b, t=Pay", "entry 2 ('t=Pay'): a group is 1 to 32 of a-z 0-9 _"),
        ("t=pay-eu", "entry 1 ('t=pay-eu'): a group is"),
        ("t=" + "x" * 33, "a group is 1 to 32"),
        ("t=größe", "a group is"),
        ("t=pay*", "a group is"),
        ("t=a,u=a,t=b", "entry 3 ('t=b'): team 't' is in group 'a' already"),
        (",".join(f"t{n}=g{n}" for n in range(33)), "entry 33 ('t32=g32'): more than 32 groups"),
    ],
)
def test_a_map_that_is_wrong_is_refused_with_its_entry(text, said):
    with pytest.raises(ConfigurationError, match="environment: LLMLOG_INDEX_GROUPS: ") as refusal:
        load(environ={"LLMLOG_INDEX_GROUPS": text})
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pay", "entry 1 ('pay'): write it as GROUP=DURATION"),
        ("pay=30", "entry 1 ('pay=30'): a number without a unit: write `30 days`"),
        ("pay=0", "entry 1 ('pay=0'): an age is more than 0"),
        ("pay=soon", "entry 1 ('pay=soon'): not a duration"),
        ("a=1d,a=2d", "entry 2 ('a=2d'): group 'a' has an age already"),
        ("Pay=30d", "entry 1 ('Pay=30d'): a group is"),
    ],
)
def test_an_age_that_is_wrong_is_refused_with_its_entry(text, said):
    with pytest.raises(ConfigurationError, match="LLMLOG_GROUP_MAX_EVENT_AGE: ") as refusal:
        load(environ={"LLMLOG_GROUP_MAX_EVENT_AGE": text})
    assert said in str(refusal.value)


def test_the_groups_of_both_settings_are_known():
    environ = {"LLMLOG_INDEX_GROUPS": "t=pay,u=pay", "LLMLOG_GROUP_MAX_EVENT_AGE": "legal=10d"}
    assert load(environ=environ).groups == ("legal", "pay")


NAMES = st.from_regex(GROUP, fullmatch=True)


@given(period=st.sampled_from(PERIODS), group=st.one_of(st.just(""), NAMES))
def test_a_place_is_read_as_it_was_written(period, group):
    match = PLACE.fullmatch(make_place(period, group))
    assert match
    assert (match[1] or "day", match[2] or "") == (period, group)


WRITTEN = st.one_of(st.text(), st.lists(st.text()), st.integers(), st.none())


@given(WRITTEN)
def test_whatever_is_written_is_a_map_of_groups_or_refused(value):
    with suppress(ValueError):
        parsed = parse_groups(value)
        assert isinstance(parsed, dict)
        assert all(map(GROUP.fullmatch, parsed.values()))


@given(WRITTEN)
def test_whatever_is_written_is_a_map_of_ages_or_refused(value):
    with suppress(ValueError):
        parsed = parse_ages(value)
        assert isinstance(parsed, dict)
        assert all(map(GROUP.fullmatch, parsed))
