"""What the broker does when learners, workers, groups and hosts fail."""

import asyncio

import pytest
from helpers.brokers import A, arrive, keys, play
from helpers.requests import request

from raydistill.sweep.workers.broker import Broker
from raydistill.training.messages import EpochResult, EpochStats

GROUPS = 2


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
            await broker.join(request(key, A, f"/tmp/{key}"))
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
        if other is None:
            assert "is gone" in (await asks[0]).error
            assert "is gone" in (await asks[1]).error
            await broker.join(request("c", A, "/tmp/c"))
            assert "is gone" in (await broker.next("c")).error
        else:
            assert not asks[0].done(), "it waits for the other group"
            assert keys(await other) in (["a"], ["b"])

    play(scenario)


def test_a_group_that_is_gone_is_told_of_once_and_its_workers_end():
    """Each restart of workers on a bad GPU tells it again, and would take the room of a healthy group."""

    async def scenario():
        broker = Broker(3, 1, gather_seconds=0, launch=lambda name: None)
        await arrive(broker, *"abc")
        await asyncio.sleep(0.05)
        assert await broker.wants("pack-0")
        for _ in range(3):
            await broker.group_failed("pack-0", "cuda:0 of x does not compute")
        assert not await broker.wants("pack-0")
        assert await broker.wants("pack-1")
        assert broker.placement.max_groups == 2
        assert (await broker.status())["room"] == 2

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


@pytest.mark.fault(5)
def test_epochs_that_are_repeated_in_silence_clear_a_trial_of_the_deaths_between():
    """With `train.checkpoint_every` a spot node may go three times before there is a result again."""

    async def scenario():
        broker = Broker(1, 2, gather_seconds=0)
        (ask,) = await arrive(broker, "a")
        await broker.boundary("p", [])
        for death in range(5):
            orders = await broker.boundary("p", [], fresh=death > 0)
            assert keys(orders) == (["a"] if death else [])
            for _ in range(3):
                assert (await broker.boundary("p", [], EpochStats(1, 1.0, 1.0))).data is not None
        assert not ask.done(), "no result, and no blame"

    play(scenario)
