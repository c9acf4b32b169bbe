"""Which of several nodes gets a request."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmlog_consumer.elasticsearch.nodes import Nodes, NodeTiming

URLS = ("http://a:1", "http://b:1", "http://c:1")
PIECE = 256 * 1024
SUSPECT_SECONDS = NodeTiming().suspect_seconds


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def checked(clock, count=2):
    nodes = Nodes(URLS[:count], clock=clock)
    for number in range(count):
        nodes.bring_back(number)
    return nodes


def test_a_single_node_is_used_unchecked_and_always(clock):
    nodes = Nodes(URLS[:1], clock=clock)
    assert not nodes.is_new(0)
    assert nodes.take_suspects() == []
    nodes.put_aside(0, "refused")
    nodes.begin(0)
    assert nodes.take() == 0


def test_the_nodes_that_wait_least_get_the_next_request(clock):
    nodes = checked(clock, 3)
    tickets = {}
    for _ in range(3):
        number = nodes.take()
        tickets[number] = nodes.begin(number)
    assert set(tickets) == {0, 1, 2}
    nodes.end(1, tickets[1])
    assert nodes.take() == 1


@pytest.mark.parametrize("count", [2, 3])
def test_one_request_after_the_other_goes_to_each_in_turn(clock, count):
    nodes, taken = checked(clock, count), []
    for _ in range(6):
        taken.append(number := nodes.take())
        nodes.end(number, nodes.begin(number))
    assert taken == (list(range(count)) * 3)[:6]


def test_of_several_nodes_each_is_new_until_it_is_checked_or_has_answered(clock):
    nodes = Nodes(URLS[:2], clock=clock)
    assert nodes.is_new(0)
    assert nodes.is_new(1)
    nodes.put_aside(0, "refused")
    assert nodes.take() == 1, "a new one before all that are aside"
    assert nodes.is_new(1)
    nodes.bring_back(0)
    nodes.answered(1, 0.1)
    assert not nodes.is_new(0)
    assert not nodes.is_new(1)


def test_a_node_that_is_put_aside_gets_nothing_and_is_named(clock):
    nodes = checked(clock)
    assert nodes.put_aside(0, "refused")
    assert not nodes.put_aside(0, "of a request that was cut off then")
    assert [nodes.take() for _ in range(5)] == [1] * 5
    assert nodes.describe() == "node http://a:1: refused"
    nodes.answered(0, 0.1)
    assert nodes.describe() == ""


def test_a_request_that_began_before_its_node_was_put_aside_says_nothing_new(clock):
    """It was ended by us, since the node is silent; its error would hide the reason."""
    nodes, began = checked(clock), clock.now
    clock.now += 5
    assert nodes.put_aside(0, "no answer in time", began)
    clock.now += 5
    assert not nodes.put_aside(0, "the connection was closed", began)
    assert nodes.describe() == "node http://a:1: no answer in time"
    assert nodes.take_suspects() == [0]
    nodes.bring_back(0)
    assert not nodes.put_aside(0, "the connection was closed", began)
    assert nodes.put_aside(0, "refused", clock.now)
    assert nodes.describe() == "node http://a:1: refused"


def test_where_all_are_aside_the_one_that_is_due_first_is_tried(clock):
    nodes = checked(clock)
    for failure in range(4):  # due later each time
        nodes.put_aside(0, "refused")
        clock.now += 20 * (failure < 3)
    nodes.put_aside(1, "refused")
    assert nodes.take() in {0, 1}
    assert nodes.take(tried=(0,)) == 1
    assert nodes.take(tried=(0, 1)) is None


def test_the_one_that_is_due_first_is_not_the_first_of_the_list(clock):
    nodes = checked(clock)
    nodes.put_aside(1, "refused")  # due within a second
    clock.now += 2
    nodes.put_aside(0, "refused")
    assert nodes.take() == 1
    assert nodes.describe() == "node http://a:1: refused; node http://b:1: refused"


def test_a_node_whose_time_has_come_is_put_aside_by_a_request_that_began_then(clock):
    nodes, began = checked(clock), clock.now
    nodes.put_aside(0, "refused")
    clock.now += 2
    nodes.put_aside(0, "cut off", began)
    assert nodes.describe() == "node http://a:1: cut off"


def test_another_node_is_one_that_is_in_use_however_busy_it_is(clock):
    nodes = checked(clock)
    nodes.begin(1)
    assert nodes.has_other_than(0)
    nodes.put_aside(1, "refused")
    assert not nodes.has_other_than(0)
    assert nodes.has_other_than(1)
    assert not checked(clock, 1).has_other_than(0)


def test_a_node_that_has_answered_is_on_trial_no_more(clock):
    nodes = checked(clock)
    nodes.put_aside(1, "refused")
    nodes.bring_back(1)
    nodes.begin(1)
    assert not nodes.has_other_than(0), "one request at a time"
    nodes.answered(1, 0.1)
    assert nodes.has_other_than(0)


def test_a_node_is_checked_when_its_time_has_come_and_later_each_time(clock):
    nodes, waits = checked(clock), []
    for _ in range(40):
        nodes.put_aside(0, "refused")
        began = clock.now
        while nodes.take_suspects() != [0]:
            clock.now += 0.1
        waits.append(clock.now - began)
    assert waits[0] <= 1.1
    assert max(waits) > 5
    assert max(waits) <= 15.2


def test_a_node_that_is_back_is_on_trial_until_it_answers(clock):
    nodes = checked(clock)
    nodes.put_aside(0, "refused")
    assert nodes.bring_back(0)
    tickets = [(number := nodes.take(), nodes.begin(number)) for _ in range(4)]
    assert [number for number, _ in tickets].count(0) == 1
    nodes.answered(0, 0.1)
    for number, ticket in tickets:
        nodes.end(number, ticket)
    assert {nodes.take(tried=(1,)), nodes.take(tried=(0,))} == {0, 1}


def test_a_silent_node_is_checked_again_and_again_while_it_is_silent(clock):
    nodes = checked(clock)
    ticket = nodes.begin(0)
    clock.now += SUSPECT_SECONDS - 0.1
    assert nodes.take_suspects() == []
    clock.now += 0.1
    assert nodes.take_suspects() == [0]
    assert nodes.take_suspects() == []
    clock.now += SUSPECT_SECONDS
    assert nodes.take_suspects() == [0]
    nodes.end(0, ticket)
    clock.now += SUSPECT_SECONDS
    assert nodes.take_suspects() == []


@pytest.mark.parametrize(
    ("seconds", "size", "is_slow"),
    [
        (2.0, PIECE, True),
        (0.9, PIECE, False),  # a second is waited for
        (2.0, 16 * PIECE, False),  # so many bytes take the other as long
        (9.0, 16 * PIECE, True),
        (9.0, 0, False),  # of a request without a body nothing is known
    ],
)
def test_a_node_that_takes_much_longer_than_another_is_slow(clock, seconds, size, is_slow):
    nodes = checked(clock)
    assert not nodes.answered(1, 0.1, PIECE)
    assert ("slow" in nodes.answered(0, seconds, size)) is is_slow


@pytest.mark.parametrize(
    ("seconds", "said"), [(1.29, ""), (1.31, "slow: 1.3 s, others take 0.3 s")]
)
def test_the_newest_request_counts_a_third_for_what_is_usual(clock, seconds, said):
    nodes = checked(clock)
    nodes.answered(1, 0.1, PIECE)
    nodes.answered(1, 0.2, PIECE)  # 0.13 s for a piece
    assert nodes.answered(0, seconds, 2 * PIECE) == said


@pytest.mark.parametrize(("usual", "is_slow"), [(0.2, True), (0.3, False)])
def test_a_small_request_counts_as_a_whole_piece(clock, usual, is_slow):
    nodes = checked(clock)
    nodes.answered(1, usual, PIECE)
    assert bool(nodes.answered(0, 1.2, 1)) is is_slow


def test_what_a_node_took_before_it_was_put_aside_is_forgotten(clock):
    nodes = checked(clock)
    nodes.answered(1, 0.1, PIECE)
    nodes.put_aside(1, "refused")
    nodes.bring_back(1)
    assert not nodes.answered(0, 9.0, PIECE)


def test_where_all_are_slow_none_is(clock):
    nodes = checked(clock)
    assert not nodes.answered(0, 9.0, PIECE)
    assert not nodes.answered(1, 9.0, PIECE)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens to nodes, a request finds one, and none that is aside without need."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.nodes = Nodes(URLS, clock=self.clock)
        self.tickets = []

    @rule(number=st.integers(0, 2))
    def put_aside(self, number):
        self.nodes.put_aside(number, "refused")

    @rule(number=st.integers(0, 2))
    def bring_back(self, number):
        self.nodes.bring_back(number)

    @rule(number=st.integers(0, 2), seconds=st.sampled_from([0.1, 9.0]))
    def answered(self, number, seconds):
        self.nodes.answered(number, seconds, PIECE)

    @rule(number=st.integers(0, 2))
    def begin(self, number):
        self.tickets.append((number, self.nodes.begin(number)))

    @precondition(lambda self: self.tickets)
    @rule()
    def end(self):
        self.nodes.end(*self.tickets.pop(0))

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.clock.now += seconds
        assert len(set(self.nodes.take_suspects())) <= 3

    @invariant()
    def a_request_finds_a_node(self):
        number = self.nodes.take()
        assert number in {0, 1, 2}
        aside = self.nodes.describe()
        if self.nodes.url(number) in aside:
            others = [n for n in range(3) if self.nodes.url(n) not in aside]
            on_trial_or_new = all(self.nodes.is_new(n) or self.waits(n) for n in others)
            assert on_trial_or_new

    def waits(self, number):
        return any(n == number for n, _ in self.tickets)


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAnyOrder = AnyOrder.TestCase
