import pytest

from config.roomy import SLOTS, roomy


@roomy
def quotient(part: float, whole: float = 1) -> float:
    """Of two numbers."""
    return part / whole


@roomy
def depth(left: int) -> int:
    return depth(left - 1) + 1 if left else 0


def test_a_call_is_the_same_with_room() -> None:
    assert (quotient(3), quotient(3, whole=2)) == (3, 1.5)
    assert (quotient.__name__, quotient.__doc__) == ("quotient", "Of two numbers.")
    with pytest.raises(ZeroDivisionError):
        quotient(1, 0)


def test_room_can_be_asked_for_again_and_again() -> None:
    assert depth(100) == 100
    assert quotient.__code__.co_stacksize == SLOTS
