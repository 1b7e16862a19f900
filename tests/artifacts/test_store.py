"""The store: found by what it was made of, made once, whole or not at all, within its limit."""

import json
import multiprocessing
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.artifacts.store import MANIFEST, ArtifactError, Store, key_of, listing

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def writes(text, times=None):
    def make(folder):
        if times is not None:
            times.append(text)
        (folder / "content").write_text(text)

    return make


def refuses(folder):
    raise AssertionError("made twice")


def test_made_once_and_found_again_by_what_it_was_made_of(tmp_path):
    times = []
    store = Store(tmp_path)
    assert store.find("bank", {"a": 1, "b": 2}) is None
    first = store.get("bank", {"a": 1, "b": 2}, writes("x", times))
    again = Store(tmp_path).get("bank", {"b": 2, "a": 1}, writes("y", times))
    assert first == again
    assert times == ["x"]
    assert (first / "content").read_text() == "x"
    assert json.loads((first / MANIFEST).read_text())["made_of"] == {"a": 1, "b": 2}
    assert Store(tmp_path).get("labels", {"a": 1, "b": 2}, writes("z")) != first


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.randoms(use_true_random=False))
def test_the_key_does_not_depend_on_order(made, rng):
    shuffled = list(made.items())
    rng.shuffle(shuffled)
    assert key_of("bank", dict(shuffled)) == key_of("bank", made)
    assert key_of("bank", {**made, "one more": 1}) != key_of("bank", made)


def test_a_maker_that_fails_leaves_nothing_and_may_try_again(tmp_path):
    store = Store(tmp_path)

    def fails(folder):
        (folder / "half").write_text("...")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.get("bank", {}, fails)
    assert store.entries() == []
    assert list((tmp_path / ".making").iterdir()) == []
    assert (store.get("bank", {}, writes("x")) / "content").exists()


def test_what_a_killed_process_left_is_not_mistaken_for_an_artifact(tmp_path):
    store = Store(tmp_path)
    key = key_of("bank", {})
    (tmp_path / ".making" / f"{key}-{os.getpid()}").mkdir(parents=True)
    (tmp_path / ".making" / f"{key}-{os.getpid()}" / "half").write_text("...")
    folder = store.get("bank", {}, writes("x"))
    assert sorted(p.name for p in folder.iterdir()) == [MANIFEST, "content"]


def slow_maker(root, barrier, results):
    barrier.wait()

    def make(folder):
        time.sleep(0.3)
        (folder / "content").write_text(str(os.getpid()))

    results.put((Store(root).get("teacher", {"x": 1}, make) / "content").read_text())


def test_processes_that_want_the_same_wait_for_one_that_makes_it(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=slow_maker, args=(tmp_path, barrier, results)) for _ in range(3)]
    for process in processes:
        process.start()
    makers = {results.get(timeout=20) for _ in processes}
    for process in processes:
        process.join(10)
    assert len(makers) == 1


def test_the_longest_unused_go_first_when_room_is_short(tmp_path):
    store = Store(tmp_path)
    for age, name in enumerate("abc"):
        folder = store.get("bank", {"name": name}, writes("x" * 1000))
        os.utime(folder / MANIFEST, (age, age))
    store.find("bank", {"name": "a"})
    removed = store.prune(2100 / 2**30)
    assert [entry.provenance["name"] for entry in removed] == ["b"]
    assert [entry.provenance["name"] for entry in store.entries()] == ["a", "c"]


def test_a_limit_keeps_what_was_just_made(tmp_path):
    store = Store(tmp_path, limit_gib=1500 / 2**30)
    for name in "ab":
        store.get("bank", {"name": name}, writes("x" * 1000))
    assert [entry.provenance["name"] for entry in store.entries()] == ["b"]
    assert store.get("bank", {"name": "c"}, writes("x" * 9000)).exists()


def test_removed_and_opened_by_the_first_digits_of_the_key(tmp_path):
    store = Store(tmp_path)
    folder = store.get("labels", {"source": {"kind": "random", "clusters": 3}, "teacher": None}, writes("x"))
    assert store.open(folder.name[:6]) == folder
    assert folder.name in listing(store.entries())
    store.remove(store.entries()[0])
    assert not folder.exists()
    with pytest.raises(ArtifactError, match="is not in"):
        store.open(folder.name)


@pytest.mark.fault(10)
def test_storage_that_refuses_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        Store(tmp_path / "file" / "store").get("bank", {}, writes("x"))


def test_a_damaged_manifest_hides_the_artifact_from_the_list_only(tmp_path):
    store = Store(tmp_path)
    folder = store.get("bank", {}, writes("x"))
    (folder / MANIFEST).write_text("{")
    assert store.entries() == []
    assert listing(store.entries()) == "no artifacts"
