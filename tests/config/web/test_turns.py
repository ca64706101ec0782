import pytest

from config.web.turns import MOST_WAITING, MOST_WAITING_EACH, SECONDS, Turns, Waiting

ANN, BEN, CAT, DAN = 1, 2, 3, 4


def test_a_caller_has_a_share_and_all_together_not_every_thread() -> None:
    turns = Turns(8)
    assert [turns.take(ANN) for _ in range(3)] == [True, True, False]
    assert [turns.take(BEN) for _ in range(3)] == [True, True, False]
    assert [turns.take(CAT) for _ in range(3)] == [True, True, False]
    assert not turns.take(DAN)
    turns.give_back(BEN)
    assert turns.take(DAN)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_even_with_few_threads_there_is_a_turn(threads: int) -> None:
    assert Turns(threads).take(ANN)


def named(waiting: list[Waiting]) -> list[str]:
    return [one.conn for one in waiting]


def test_who_waits_comes_in_order_and_past_those_whose_share_is_taken() -> None:
    turns = Turns(8)
    for caller in (ANN, ANN, BEN):
        turns.take(caller)
    for name, caller in (("ann 1", ANN), ("ann 2", ANN), ("ben", BEN)):
        assert turns.wait(name, caller, now=0)
    assert named(turns.due()) == ["ben"]
    assert named(turns.due()) == []
    turns.give_back(ANN)
    assert named(turns.due()) == ["ann 1"]
    turns.give_back(BEN)
    assert named(turns.due()) == []


def test_nobody_waits_for_ever() -> None:
    turns = Turns(4)
    turns.take(ANN)
    turns.wait("early", ANN, now=0)
    turns.wait("late", ANN, now=1)
    assert named(turns.late(SECONDS - 1)) == []
    assert named(turns.late(SECONDS)) == ["early"]
    turns.give_back(ANN)
    assert named(turns.due()) == ["late"]


def test_one_caller_alone_does_not_fill_the_room_to_wait_in() -> None:
    turns = Turns(4)
    assert [turns.wait(n, ANN, now=0) for n in range(MOST_WAITING_EACH + 1)].count(False) == 1
    assert turns.wait("ben", BEN, now=0)


def test_nor_do_callers_that_somebody_makes_up() -> None:
    turns = Turns(4)
    waiting = [turns.wait(n, f"caller {n}", now=0) for n in range(MOST_WAITING + 5)]
    assert waiting.count(False) == 5
