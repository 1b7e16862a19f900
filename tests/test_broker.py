"""The broker's decisions, without a cluster."""

import asyncio

import pytest

from raydistill.sweep.broker import Broker
from raydistill.training.pack import Report

A, B = {"data": {"batch_size": 16}}, {"data": {"batch_size": 32}}


def play(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), timeout=20))


async def arrive(broker, *keys, config=A):
    """Trials join and ask for their first epoch."""
    tasks = []
    for key in keys:
        await broker.join(key, config, f"/tmp/{key}")
        tasks.append(asyncio.create_task(broker.next(key)))
    await asyncio.sleep(0)
    return tasks


def keys(orders):
    return [assignment.key for assignment in orders.start]


def test_trials_share_a_pack_and_get_their_reports():
    async def scenario():
        broker = Broker(capacity=2, gather_seconds=5)
        asks = await arrive(broker, "a", "b", "c")
        orders = await broker.boundary("p", [])
        assert keys(orders) == ["a", "b"]
        assert orders.data == A["data"]
        again = asyncio.create_task(broker.boundary("p", [Report("a", 1), Report("b", 1, done=True)]))
        assert (await asks[0]).epoch == 1
        assert (await asks[1]).done
        assert not asks[2].done()
        await asyncio.sleep(0.05)
        assert not again.done(), "the pack waits for what the scheduler decides on a"
        next_a = asyncio.create_task(broker.next("a"))
        assert keys(await again) == ["c"]
        next_a.cancel()

    play(scenario)


def test_an_empty_pack_gathers_trials_before_it_starts():
    async def scenario():
        broker = Broker(capacity=3, gather_seconds=30)
        await arrive(broker, "a")
        waiting = asyncio.create_task(broker.boundary("p", []))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await arrive(broker, "b", "c")
        assert keys(await waiting) == ["a", "b", "c"]

    play(scenario)


def test_it_does_not_wait_for_more_trials_than_will_come():
    async def scenario():
        broker = Broker(capacity=8, gather_seconds=30)
        await broker.expect(1)
        await arrive(broker, "a")
        assert keys(await broker.boundary("p", [])) == ["a"]

    play(scenario)


def test_a_trial_that_leaves_is_stopped_at_the_boundary():
    async def scenario():
        broker = Broker(capacity=2, gather_seconds=0)
        asks = await arrive(broker, "a", "b")
        await broker.boundary("p", [])
        boundary = asyncio.create_task(broker.boundary("p", [Report("a", 1), Report("b", 1)]))
        await asyncio.gather(*asks)
        await broker.leave("b")
        more = asyncio.create_task(broker.next("a"))
        orders = await boundary
        assert orders.stop == ["b"]
        assert keys(orders) == []
        more.cancel()

    play(scenario)


def test_trials_with_other_data_settings_wait_for_a_pack_of_their_own():
    async def scenario():
        broker = Broker(capacity=4, gather_seconds=0)
        asks = await arrive(broker, "a") + await arrive(broker, "b", config=B)
        assert keys(await broker.boundary("p", [])) == ["a"]
        assert keys(await broker.boundary("q", [])) == ["b"]
        orders = asyncio.create_task(broker.boundary("p", [Report("a", 1, done=True)]))
        assert (await asks[0]).done
        await arrive(broker, "c", config=B)
        after = await orders
        assert keys(after) == ["c"]
        assert after.data == B["data"]

    play(scenario)


def test_a_restarted_group_starts_its_learners_again():
    async def scenario():
        broker = Broker(capacity=2, gather_seconds=0)
        asks = await arrive(broker, "a", "b")
        await broker.boundary("p", [])
        orders = await broker.boundary("p", [], fresh=True)
        assert sorted(keys(orders)) == ["a", "b"]
        assert not any(ask.done() for ask in asks), "trials only wait"

    play(scenario)


def test_a_failed_learner_tells_its_trial_why():
    async def scenario():
        broker = Broker(capacity=2, gather_seconds=0)
        asks = await arrive(broker, "a")
        await broker.boundary("p", [])
        boundary = asyncio.create_task(broker.boundary("p", [Report("a", error="ssl_1 = nan")]))
        assert (await asks[0]).error == "ssl_1 = nan"
        await broker.leave("a")
        await broker.close()
        assert (await boundary).close

    play(scenario)


@pytest.mark.parametrize("others", [0, 1])
def test_when_a_group_is_gone_for_good_no_trial_hangs(others):
    async def scenario():
        broker = Broker(capacity=1, gather_seconds=0)
        asks = await arrive(broker, "a", "b")
        await broker.boundary("p", [])
        other = asyncio.create_task(broker.boundary("q", [])) if others else None
        await asyncio.sleep(0.05)
        await broker.pack_failed("p", "worker group p is gone")
        assert "is gone" in (await asks[0]).error
        if other is None:
            assert "is gone" in (await asks[1]).error
            await broker.join("c", A, "/tmp/c")
            assert "is gone" in (await broker.next("c")).error
        else:
            assert keys(await other) == ["b"]

    play(scenario)


def test_a_pack_closes_when_the_last_learner_has_left():
    async def scenario():
        broker = Broker(capacity=1, gather_seconds=0)
        asks = await arrive(broker, "a")
        await broker.boundary("p", [])
        await broker.close()
        boundary = asyncio.create_task(broker.boundary("p", [Report("a", 1)]))
        await asks[0]
        await asyncio.sleep(0.05)
        assert not boundary.done()
        await broker.leave("a")
        assert (await boundary).close

    play(scenario)


def test_asking_for_an_unknown_trial_is_an_error():
    async def scenario():
        assert "not in the sweep" in (await Broker(1).next("nobody")).error
        await Broker(1).leave("nobody")

    play(scenario)
