"""Many policies are one transaction of etcd: all of them or none."""

from collections.abc import Callable

import pytest

from agent.errors import InvalidInput
from agent.store.protocols import StoredPolicy
from tests.testlib.patience import eventually_async
from tests.testlib.stores.data_loss import StoreWithDisk

Cells = Callable[[str], StoreWithDisk]


@pytest.mark.parametrize("count", [1, 129, 4_000])
async def test_many_policies_are_applied_at_once_or_not_at_all(cells: Cells, count: int) -> None:
    one, two = cells("one"), cells("two")
    await two.well()
    seen: set[int] = set()

    async def look() -> None:
        seen.add(len(await two.documents()))

    two.store.changes.subscribe(lambda: seen.add(sum("/policies/" in key for key in two.store.mirror.in_force)))
    await one.store.apply_policies([StoredPolicy(f"p{number}", "x" * 100) for number in range(count)])
    await eventually_async(lambda: two.store.mirror.copy.revision >= one.store.mirror.copy.revision)
    await look()
    assert seen <= {0, count}
    assert len(await two.documents()) == count


async def test_more_than_fits_into_one_request_is_refused_before_anything_is_written(cells: Cells) -> None:
    one = cells("one")
    await one.well()
    fits = [StoredPolicy(f"p{number}", "x" * 1000) for number in range(1_400)]
    await one.store.apply_policies(fits)
    assert len(await one.documents()) == 1_400
    with pytest.raises(InvalidInput, match="nothing was written") as refused:
        await one.store.apply_policies([StoredPolicy(f"q{number}", "x" * 1000) for number in range(1_700)])
    assert "split" in refused.value.hint
    assert len(await one.documents()) == 1_400
