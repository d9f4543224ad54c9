from __future__ import annotations

from serve.models.messages import Usage


def test_the_usage_of_both_is_their_sum_and_the_later_time() -> None:
    assert Usage(1, 1, 5.0).plus(Usage(2, 0, 3.0)) == Usage(3, 1, 5.0)
    assert Usage().plus(Usage()) == Usage() and Usage().plus(Usage(1, 0, 2.0)).last == 2.0
