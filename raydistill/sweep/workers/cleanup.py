"""Ends an actor of Ray with everything that it started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import ray
from ray._private.state import state
from ray._raylet import PlacementGroupID
from ray.core.generated.gcs_pb2 import ActorTableData, PlacementGroupTableData
from ray.util.placement_group import PlacementGroup


# docs/architecture.md#cleanup-after-ray-train
def kill_actor_tree(actor: Any) -> None:
    """Kill an actor, and with it the actors that it owns, theirs, and so on; give back what they reserved.

    Ray 2.60 leaves the placement group of a Train run that was not closed in order to the driver's end, and with it
    the cores or GPUs that the next run waits for.
    """
    reserved: list[PlacementGroup] = []
    with suppress(ray.exceptions.RayError):  # then they are left to Ray
        reserved = list(_reserved(_family(actor)))
    ray.kill(actor)
    for group in reserved:
        with suppress(ray.exceptions.RayError):
            ray.util.remove_placement_group(group)


def _family(actor: Any) -> set[bytes]:
    """Ids of the actor and of all its descendants, the dead ones included."""
    actors = [ActorTableData.FromString(row) for row in state._connect_and_get_accessor().get_actor_table(None, None)]
    family = {actor._actor_id.binary()}
    while True:
        processes = {each.address.worker_id for each in actors if each.actor_id in family} - {b""}
        children = {each.actor_id for each in actors if each.owner_address.worker_id in processes}
        if children <= family:
            return family
        family |= children


def _reserved(actors: set[bytes]) -> Iterator[PlacementGroup]:
    """The placement groups that these actors made and have not given back."""
    for row in state._connect_and_get_accessor().get_placement_group_table():
        found = PlacementGroupTableData.FromString(row)
        if found.creator_actor_id in actors and found.state != PlacementGroupTableData.REMOVED:
            yield PlacementGroup(PlacementGroupID(found.placement_group_id))
