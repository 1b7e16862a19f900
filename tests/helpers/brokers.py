"""Scenarios with a broker, without a cluster."""

import asyncio

from helpers.requests import request
from raydistill import config


def batches_of(size):
    """A configuration whose data settings differ by the batch size."""
    return config.load({"method": "simclr", "data": {"batch_size": size}})


A, B = batches_of(16), batches_of(32)


def play(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), timeout=20))


async def arrive(broker, *keys, wanted=A):
    """Trials join and ask for their first epoch."""
    tasks = []
    for key in keys:
        await broker.join(request(key, wanted, f"/tmp/{key}"))
        tasks.append(asyncio.create_task(broker.next(key)))
    await asyncio.sleep(0)
    return tasks


def keys(orders):
    return [assignment.key for assignment in orders.start]
