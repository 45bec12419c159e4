import os
import signal
import threading

import pytest

from t2t_vqem.training.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_recorded(number):
    with StopRequest() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.name == number.name


def test_workers_stop_when_all_know_of_the_request():
    with StopRequest(num_workers=2) as stop:
        assert stop.poll() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert not stop
        assert stop.poll() == 1
        stop.hear(0.0)
        assert not stop
        stop.hear(1.0)
        stop.hear(0.0)
        assert stop
    other = StopRequest(num_workers=2)
    other.hear(2.0)
    assert other
    assert other.name is None


def test_second_signal_acts_as_usual():
    # A background process of a shell, as these tests may be, ignores it from the start.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopRequest() as stop, pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
            assert stop
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, usual)


def test_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_outside_the_main_thread_no_signal_is_recorded():
    errors = []

    def work():
        try:
            with StopRequest() as stop:
                assert not stop
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors
