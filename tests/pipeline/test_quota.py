"""How much of a hard quota the pacer uses, and what that costs: figures that the documentation names."""

import pytest

from tests.pipeline.quota import Backlog, Quota, Tenant, deliver

QUOTAS = [5.0, 10.0, 20.0]
BURSTS = [1.0, 20.0, 100.0]
WRITERS = 32
BEGINS_S, ENDS_S = 60.0, 300.0
SHARE_OF_QUOTA = 0.95


def require_short_waits(backlog: Backlog, per_second: float) -> None:
    """No batch waits for much longer than its turn takes to come round."""
    assert backlog.longest_wait_s(BEGINS_S, ENDS_S) <= 2.0 * WRITERS / per_second


@pytest.mark.parametrize("burst", BURSTS)
@pytest.mark.parametrize("per_second", QUOTAS)
def test_a_quota_that_is_known_is_used_and_nothing_is_wasted(per_second: float, burst: float) -> None:
    """It is told, or read from Service Quotas."""
    backlog = deliver(SHARE_OF_QUOTA * per_second, Quota(per_second, burst), writers=WRITERS)

    assert backlog.used(0.0, ENDS_S, per_second) >= 0.94
    assert backlog.wasted(0.0, ENDS_S) <= 0.005
    require_short_waits(backlog, per_second)


@pytest.mark.parametrize("burst", BURSTS)
@pytest.mark.parametrize("per_second", QUOTAS)
@pytest.mark.parametrize("limit", [None, 100.0])
def test_a_quota_that_nobody_told_is_found_and_held(limit: float | None, per_second: float, burst: float) -> None:
    """The service shows nothing but its refusals; and what it was told may be five to twenty times too much."""
    backlog = deliver(limit, Quota(per_second, burst), writers=WRITERS)

    assert backlog.used(BEGINS_S, ENDS_S, per_second) >= 0.92
    assert backlog.wasted(BEGINS_S, ENDS_S) <= 0.03
    require_short_waits(backlog, per_second)


@pytest.mark.parametrize(("per_second", "burst"), [(5.0, 1.0), (10.0, 20.0), (20.0, 1.0), (20.0, 20.0), (20.0, 100.0)])
def test_the_first_minute_is_not_lost_with_searching(per_second: float, burst: float) -> None:
    """Most syncs are over by then."""
    backlog = deliver(None, Quota(per_second, burst), seconds=60.0)

    assert backlog.used(0.0, 60.0, per_second) >= 0.7
    assert backlog.wasted(0.0, 60.0) <= 0.08


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limit", [None, SHARE_OF_QUOTA * 20.0])
def test_what_another_one_takes_is_left_to_him_and_taken_back(limit: float | None, seed: int) -> None:
    """Agents read and write through the same account; for 200 s they take 14 of 20."""
    agents = Tenant(14.0, begins_s=100.0, ends_s=300.0)

    backlog = deliver(limit, Quota(20.0, 20.0), seconds=500.0, tenants=[agents], seed=seed)

    assert backlog.used(110.0, 300.0, 6.0) >= 0.9
    assert backlog.used(100.0, 500.0, (6.0 * 200.0 + 20.0 * 200.0) / 400.0) >= 0.9
    assert backlog.wasted(100.0, 500.0) <= 0.03
    assert backlog.back_after_s(300.0, 20.0) <= 60.0


@pytest.mark.parametrize("per_second", [5.0, 100.0])
def test_a_large_quota_is_taken_back_as_soon_as_a_small_one(per_second: float) -> None:
    """The rise is a share of what was taken before."""
    agents = Tenant(0.7 * per_second, begins_s=60.0, ends_s=160.0)

    backlog = deliver(None, Quota(per_second, per_second), seconds=260.0, tenants=[agents])

    assert backlog.back_after_s(160.0, per_second) <= 60.0


def test_machines_that_do_not_know_of_each_other_get_like_shares() -> None:
    """Sources that are run by themselves, and share a memory."""
    backlog = deliver(None, Quota(20.0, 20.0), machines=4, writers=8, seed=2)

    assert backlog.used(BEGINS_S, ENDS_S, 20.0) >= 0.92
    assert backlog.wasted(BEGINS_S, ENDS_S) <= 0.03
    assert all(0.5 <= share <= 1.6 for share in backlog.shares(BEGINS_S, ENDS_S, 4))
