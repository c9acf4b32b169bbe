"""How many events may be in flight."""

from llmlog_producer.sending.in_flight import SendWindow


def test_after_a_refusal_one_event_is_sent_at_a_time():
    window = SendWindow(100)
    window.send_alone(10.0)
    assert window.size == 1
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
