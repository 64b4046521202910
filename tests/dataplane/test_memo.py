"""What follows from a value is worked out once for each object, and forgotten with it."""

import gc

from dataplane.memo import Memo


class Asked:
    """Counts what is worked out."""

    def __init__(self) -> None:
        self.times = 0
        self.memo: Memo[frozenset[int], int] = Memo(self._largest)

    def _largest(self, numbers: frozenset[int]) -> int:
        self.times += 1
        return max(numbers)


def test_a_value_is_computed_once_for_an_object() -> None:
    asked, numbers = Asked(), frozenset(range(9))
    assert [asked.memo.of(numbers) for _ in range(3)] == [8, 8, 8]
    assert asked.times == 1


def test_for_an_equal_object_the_value_is_computed_anew() -> None:
    asked = Asked()
    one, other = frozenset(range(9)), frozenset(range(9))
    assert asked.memo.of(one) == asked.memo.of(other)
    assert asked.times == 2


def test_an_object_is_forgotten_with_its_answer_and_the_next_at_its_address_has_its_own() -> None:
    asked = Asked()
    for last in range(1000):
        numbers = frozenset({last, -1})
        assert asked.memo.of(numbers) == last
        del numbers
    gc.collect()
    assert len(asked.memo) == 0
