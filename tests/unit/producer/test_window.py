"""How many events may be in flight."""

from llmlog_producer.sending.window import SendWindow


def test_all_that_there_is_room_for_may_be_in_flight():
    window = SendWindow(100)
    assert window.is_open(99, 0.0)
    assert not window.is_open(100, 0.0)
    assert not window.was_alone(5.0)


def test_after_a_refusal_one_event_is_sent_at_a_time():
    window = SendWindow(100)
    window.send_alone(10.0)
    assert window.is_open(0, 10.0)
    assert not window.is_open(1, 10.0)
    assert not window.was_alone(9.9), "it was sent with others"
    assert window.was_alone(10.0)


def test_an_acknowledgement_of_before_the_refusal_opens_nothing():
    window = SendWindow(100)
    window.send_alone(10.0)
    window.acknowledge(9.9)
    assert window.size == 1
    assert window.was_alone(10.1)


def test_each_acknowledgement_afterwards_doubles_the_number():
    window = SendWindow(100)
    window.send_alone(10.0)
    sizes = []
    for _ in range(8):
        window.acknowledge(10.1)
        sizes.append(window.size)
    assert sizes == [2, 4, 8, 16, 32, 64, 100, 100]
    assert not window.was_alone(10.1)


def test_a_second_refusal_does_not_move_the_time_since_which_events_are_alone():
    window = SendWindow(100)
    window.send_alone(10.0)
    window.send_alone(20.0)
    assert window.was_alone(15.0)


def test_nothing_is_sent_during_a_pause():
    window = SendWindow(100)
    window.pause(20.0)
    assert not window.is_open(0, 19.9)
    assert window.is_open(0, 20.0)
