"""Scenarios with a broker, without a cluster."""

import asyncio

from raydistill.training.messages import Assignment

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
