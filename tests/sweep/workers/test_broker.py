"""The broker's decisions, without a cluster."""

import asyncio

import pytest

from raydistill.sweep.workers.broker import Broker
from raydistill.training.messages import Assignment, EpochResult, EpochStats

GROUPS = 2
A, B = {"data": {"batch_size": 16}}, {"data": {"batch_size": 32}}


def play(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), timeout=20))


async def arrive(broker, *keys, config=A):
    """Trials join and ask for their first epoch."""
    tasks = []
    for key in keys:
        await broker.join(Assignment(key, config, f"/tmp/{key}"))
        tasks.append(asyncio.create_task(broker.next(key)))
    await asyncio.sleep(0)
    return tasks


def keys(orders):
    return [assignment.key for assignment in orders.start]


def test_trials_share_a_pack_and_get_their_reports():
    async def scenario():
        broker = Broker(GROUPS, 2, gather_seconds=5)
        asks = await arrive(broker, "a", "b", "c")
        orders = await broker.boundary("p", [])
        assert keys(orders) == ["a", "b"]
        assert orders.data == A["data"]
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
        asks = await arrive(broker, "a") + await arrive(broker, "b", config=B)
        orders = await broker.boundary("p", [])
        assert keys(orders) == ["a", "b"]
        assert orders.data == A["data"]
        orders = asyncio.create_task(broker.boundary("p", [EpochResult("a", 1)]))
        assert (await asks[0]).epoch == 1
        after = await orders
        assert after.data == B["data"], "b's pack trains while the scheduler thinks about a"
        assert keys(after) == []
        third = asyncio.create_task(broker.boundary("p", [EpochResult("b", 1, done=True)]))
        assert (await asks[1]).done
        more = asyncio.create_task(broker.next("a"))
        assert (await third).data == A["data"]
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
        await arrive(broker, "b", config=B)
        assert launched == ["pack-0", "pack-1"]
        await arrive(broker, "c", config={"data": {"batch_size": 64}})
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


@pytest.mark.fault(9)
def test_a_learner_that_ran_out_of_memory_waits_and_goes_on_when_there_is_room():
    async def scenario():
        broker = Broker(1, 3, gather_seconds=0)
        asks = await arrive(broker, "a", "b", "c")
        await broker.boundary("p", [])
        reports = [EpochResult("a", 1), EpochResult("b", error="out of memory", memory=True), EpochResult("c", 1)]
        boundary = asyncio.create_task(broker.boundary("p", reports))
        await asyncio.gather(asks[0], asks[2])
        again = [asyncio.create_task(broker.next(key)) for key in ("a", "c")]
        assert keys(await boundary) == [], "the pack takes one less from now on"
        assert not asks[1].done()
        boundary = asyncio.create_task(broker.boundary("p", [EpochResult("a", 2, done=True), EpochResult("c", 2)]))
        assert (await again[0]).done
        await again[1]
        more = asyncio.create_task(broker.next("c"))
        assert keys(await boundary) == ["b"]
        boundary = asyncio.create_task(broker.boundary("p", [EpochResult("b", error="out of memory", memory=True)]))
        more.cancel()
        await broker.leave("c")
        assert keys(await boundary) == ["b"], "now alone"
        boundary = asyncio.create_task(broker.boundary("p", [EpochResult("b", error="out of memory", memory=True)]))
        assert (await asks[1]).error == "out of memory", "and no loop"
        boundary.cancel()

    play(scenario)


def test_the_learner_that_kills_its_workers_is_found_and_fails_alone():
    async def scenario():
        broker = Broker(1, 8, gather_seconds=0)
        errors = {}

        async def live(key):
            while key not in errors:
                report = await broker.next(key)
                if report.error:
                    errors[key] = report.error

        tasks = []
        for key in "abcdefgh":
            await broker.join(Assignment(key, A, f"/tmp/{key}"))
            tasks.append(asyncio.create_task(live(key)))
        await asyncio.sleep(0)
        lives, training, fresh = 0, set(), True
        while "f" not in errors:
            reports = [] if fresh else [EpochResult(key, 1) for key in sorted(training)]
            orders = await broker.boundary("p", reports, fresh=fresh)
            training = (set() if fresh else training - set(orders.stop)) | set(keys(orders))
            fresh = "f" in training
            lives += fresh
            assert lives < 8
            await asyncio.sleep(0)
        assert "workers died" in errors["f"]
        orders = await broker.boundary("p", [EpochResult(key, 1) for key in sorted(training)])
        assert training | set(keys(orders)) == set("abcdegh")
        assert list(errors) == ["f"]
        for task in tasks:
            task.cancel()

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


def test_a_restarted_group_starts_its_learners_again():
    async def scenario():
        broker = Broker(GROUPS, 2, gather_seconds=0)
        asks = await arrive(broker, "a", "b")
        await broker.boundary("p", [])
        orders = await broker.boundary("p", [], fresh=True)
        assert sorted(keys(orders)) == ["a", "b"]
        assert not any(ask.done() for ask in asks), "trials only wait"

    play(scenario)


def test_a_failed_learner_tells_its_trial_why():
    async def scenario():
        broker = Broker(GROUPS, 2, gather_seconds=0)
        asks = await arrive(broker, "a")
        await broker.boundary("p", [])
        boundary = asyncio.create_task(broker.boundary("p", [EpochResult("a", error="ssl_1 = nan")]))
        assert (await asks[0]).error == "ssl_1 = nan"
        await broker.leave("a")
        await broker.close()
        assert (await boundary).close

    play(scenario)


@pytest.mark.parametrize("others", [0, 1])
def test_when_a_group_is_gone_for_good_no_trial_hangs(others):
    async def scenario():
        broker = Broker(GROUPS, 1, gather_seconds=0)
        asks = await arrive(broker, "a", "b")
        await broker.boundary("p", [])
        other = asyncio.create_task(broker.boundary("q", [])) if others else None
        await asyncio.sleep(0.05)
        await broker.group_failed("p", "worker group p is gone")
        assert "is gone" in (await asks[0]).error
        if other is None:
            assert "is gone" in (await asks[1]).error
            await broker.join(Assignment("c", A, "/tmp/c"))
            assert "is gone" in (await broker.next("c")).error
        else:
            assert keys(await other) == ["b"]

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
        assert not boundary.done() and not closing.done()
        await broker.leave("a")
        assert (await boundary).close
        await closing

    play(scenario)


def test_asking_for_an_unknown_trial_is_an_error():
    async def scenario():
        assert "not in the sweep" in (await Broker().next("nobody")).error
        await Broker().leave("nobody")

    play(scenario)


def test_workers_that_died_while_they_waited_take_no_orders():
    async def scenario():
        broker = Broker(1, 4, gather_seconds=0)
        dead = asyncio.create_task(broker.boundary("p", [], None, True))
        await asyncio.sleep(0)
        alive = asyncio.create_task(broker.boundary("p", [], None, True))
        await asyncio.sleep(0)
        asks = await arrive(broker, "a")
        assert (await dead).close
        assert keys(await alive) == ["a"]
        asks[0].cancel()

    play(scenario)


def test_a_trial_that_leaves_and_joins_again_is_stopped_where_it_trained_before_another_group_takes_it():
    async def scenario():
        broker = Broker(GROUPS, 2, gather_seconds=0)
        asks = await arrive(broker, "a", "c")
        asks += await arrive(broker, "b", config=B)
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


@pytest.mark.fault(5)
def test_trials_of_a_group_whose_host_died_wait_for_another():
    async def scenario():
        hosts = []

        def launch(name):
            hosts.append((name, asyncio.get_running_loop().create_future()))
            return hosts[-1][1]

        broker = Broker(1, 2, gather_seconds=0, launch=launch)
        asks = await arrive(broker, "a")
        assert keys(await broker.boundary("pack-0", [], None, True)) == ["a"]
        hosts[0][1].set_exception(RuntimeError("its node is gone"))
        await asyncio.sleep(0.05)
        assert (await broker.boundary("pack-0", [EpochResult("a", 1)])).close, "workers that outlived their host"
        assert [name for name, _ in hosts] == ["pack-0", "pack-1"]
        assert keys(await broker.boundary("pack-1", [], None, True)) == ["a"]
        again = asyncio.create_task(broker.boundary("pack-1", [EpochResult("a", 1, done=True)]))
        assert (await asks[0]).done
        again.cancel()

    play(scenario)


def test_hosts_that_die_again_and_again_end_the_sweep_with_their_cause():
    async def scenario():
        async def die():
            raise RuntimeError("no such image")

        broker = Broker(1, 2, gather_seconds=0, launch=lambda name: die())
        (ask,) = await arrive(broker, "a")
        assert "no such image" in (await ask).error

    play(scenario)
