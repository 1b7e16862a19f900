"""The broker's decisions, without a cluster."""

import asyncio

from helpers.brokers import A, B, arrive, batches_of, keys, play

from raydistill.sweep.workers.broker import Broker
from raydistill.training.messages import EpochResult, EpochStats

GROUPS = 2


def test_trials_share_a_pack_and_get_their_reports():
    async def scenario():
        broker = Broker(GROUPS, 2, gather_seconds=5)
        asks = await arrive(broker, "a", "b", "c")
        orders = await broker.boundary("p", [])
        assert keys(orders) == ["a", "b"]
        assert orders.data == A.data
        again = asyncio.create_task(broker.boundary("p", [EpochResult("a", 1), EpochResult("b", 1, done=True)]))
        assert (await asks[0]).epoch == 1
        assert (await asks[1]).done
        assert not asks[2].done()
        await asyncio.sleep(0.05)
        assert not again.done(), "the pack waits for what the scheduler decides on a"
        next_a = asyncio.create_task(broker.next("a"))
        assert keys(await again) == ["c"]
        next_a.cancel()

    play(scenario)


def test_of_the_moments_of_several_workers_the_first_counts():
    async def scenario():
        broker = Broker(GROUPS, 2)
        for what, when in (("up", 3.0), ("step", 5.0), ("up", 4.0)):
            await broker.note(what, when)
        assert await broker.moments() == {"up": 3.0, "step": 5.0}

    play(scenario)


def test_an_empty_pack_gathers_trials_before_it_starts():
    async def scenario():
        broker = Broker(GROUPS, 3, gather_seconds=30)
        await arrive(broker, "a")
        waiting = asyncio.create_task(broker.boundary("p", []))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await arrive(broker, "b", "c")
        assert keys(await waiting) == ["a", "b", "c"]

    play(scenario)


def test_it_does_not_wait_for_more_trials_than_will_come():
    async def scenario():
        broker = Broker(GROUPS, 8, gather_seconds=30)
        await broker.expect(1)
        await arrive(broker, "a")
        assert keys(await broker.boundary("p", [])) == ["a"]

    play(scenario)


def test_a_trial_that_leaves_is_stopped_at_the_boundary():
    async def scenario():
        broker = Broker(GROUPS, 2, gather_seconds=0)
        asks = await arrive(broker, "a", "b")
        await broker.boundary("p", [])
        boundary = asyncio.create_task(broker.boundary("p", [EpochResult("a", 1), EpochResult("b", 1)]))
        await asyncio.gather(*asks)
        await broker.leave("b")
        more = asyncio.create_task(broker.next("a"))
        orders = await boundary
        assert orders.stop == ["b"]
        assert keys(orders) == []
        more.cancel()

    play(scenario)


def test_a_single_group_trains_packs_of_different_data_in_turn():
    async def scenario():
        broker = Broker(1, 4, gather_seconds=0)
        asks = await arrive(broker, "a") + await arrive(broker, "b", wanted=B)
        orders = await broker.boundary("p", [])
        assert keys(orders) == ["a", "b"]
        assert orders.data == A.data
        orders = asyncio.create_task(broker.boundary("p", [EpochResult("a", 1)]))
        assert (await asks[0]).epoch == 1
        after = await orders
        assert after.data == B.data, "b's pack trains while the scheduler thinks about a"
        assert keys(after) == []
        third = asyncio.create_task(broker.boundary("p", [EpochResult("b", 1, done=True)]))
        assert (await asks[1]).done
        more = asyncio.create_task(broker.next("a"))
        assert (await third).data == A.data
        more.cancel()

    play(scenario)


class Launches(list):
    """Stands for what starts groups."""

    def __call__(self, name):
        self.append(name)


def test_a_group_is_launched_when_trials_wait_and_another_when_the_first_is_full():
    async def scenario():
        launched = Launches()
        broker = Broker(3, 2, launch=launched, gather_seconds=0)
        assert launched == []
        await arrive(broker, "a", "b")
        assert launched == ["pack-0"]
        await arrive(broker, "c")
        assert launched == ["pack-0", "pack-1"]
        assert keys(await broker.boundary("pack-0", [])) == ["a", "b"]
        assert keys(await broker.boundary("pack-1", [])) == ["c"]
        await arrive(broker, "d")
        assert launched == ["pack-0", "pack-1"], "there is room beside c"

    play(scenario)


def test_other_data_ask_for_a_group_of_their_own_while_the_limit_allows():
    async def scenario():
        launched = Launches()
        broker = Broker(2, 4, launch=launched, gather_seconds=0)
        await arrive(broker, "a")
        assert keys(await broker.boundary("pack-0", [])) == ["a"]
        await arrive(broker, "b", wanted=B)
        assert launched == ["pack-0", "pack-1"]
        await arrive(broker, "c", wanted=batches_of(64))
        assert len(launched) == 2
        assert keys(await broker.boundary("pack-1", [])) == ["b", "c"]

    play(scenario)


def test_an_idle_group_ends_and_waiting_trials_bring_another():
    async def scenario():
        launched = Launches()
        broker = Broker(1, 2, launch=launched, gather_seconds=0, idle_seconds=0.2)
        asks = await arrive(broker, "a")
        await broker.boundary("pack-0", [])
        assert (await broker.boundary("pack-0", [EpochResult("a", 1, done=True)])).close
        assert (await asks[0]).done
        assert (await broker.status())["workers"] == 0
        await arrive(broker, "b")
        assert launched == ["pack-0", "pack-1"]

    play(scenario)


def test_a_trial_that_joins_again_is_started_from_its_checkpoint():
    """Paused by a scheduler, and on again."""

    async def scenario():
        broker = Broker(1, 2, gather_seconds=0)
        asks = await arrive(broker, "a", "b")
        await broker.boundary("p", [])
        boundary = asyncio.create_task(broker.boundary("p", [EpochResult("a", 1), EpochResult("b", 1)]))
        await asyncio.gather(*asks)
        await broker.leave("a")
        more = asyncio.create_task(broker.next("b"))
        assert (await boundary).stop == ["a"]
        more.cancel()
        (ask,) = await arrive(broker, "a")
        orders = await broker.boundary("p", [])
        assert keys(orders) == ["a"]
        ask.cancel()

    play(scenario)


def test_the_capacity_grows_while_learners_share_and_memory_lasts():
    async def scenario():
        broker = Broker(1, None, most=16, gather_seconds=0)
        assert (await broker.status())["room"] == 4
        await arrive(broker, *"abcd")
        await broker.boundary("p", [])
        ask = asyncio.create_task(broker.boundary("p", [], EpochStats(4, seconds=1.0, own_seconds=0.5, memory=0.1)))
        await ask
        assert (await broker.status())["room"] == 8

    play(scenario)


def test_a_group_closes_when_the_last_learner_has_left():
    async def scenario():
        broker = Broker(1, 1, gather_seconds=0)
        asks = await arrive(broker, "a")
        await broker.boundary("p", [])
        closing = asyncio.create_task(broker.close())
        boundary = asyncio.create_task(broker.boundary("p", [EpochResult("a", 1)]))
        await asks[0]
        await asyncio.sleep(0.05)
        assert not boundary.done()
        assert not closing.done()
        await broker.leave("a")
        assert (await boundary).close
        await closing

    play(scenario)


def test_asking_for_an_unknown_trial_is_an_error():
    async def scenario():
        assert "not in the sweep" in (await Broker().next("nobody")).error
        await Broker().leave("nobody")

    play(scenario)


def test_a_trial_that_leaves_and_joins_again_is_stopped_where_it_trained_before_another_group_takes_it():
    async def scenario():
        broker = Broker(GROUPS, 2, gather_seconds=0)
        asks = await arrive(broker, "a", "c")
        asks += await arrive(broker, "b", wanted=B)
        first = await broker.boundary("p", [], None, True)
        assert keys(first) == ["a", "c"]
        other = asyncio.create_task(broker.boundary("q", [], None, True))
        assert keys(await other) == ["b"]
        idle = asyncio.create_task(broker.boundary("q", [EpochResult("b", 1, done=True)]))
        await asyncio.sleep(0)
        await broker.leave("a")  # paused in the middle of its epoch, and at once told to go on
        asks += await arrive(broker, "a")
        await asyncio.sleep(0.5)
        assert not idle.done(), "its first group has not last_delivered_epoch of it yet"
        again = await broker.boundary("p", [EpochResult("a", 1), EpochResult("c", 1, done=True)])
        assert again.stop == ["a"]
        assert keys(again) == ["a"]
        for task in (*asks, idle):
            task.cancel()

    play(scenario)
