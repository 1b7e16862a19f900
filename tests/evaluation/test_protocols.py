"""The papers' k-NN protocols against NumPy, on every path by which an encoder is scored."""

from collections import Counter

import numpy as np
import pytest
import torch
from helpers.builders.runs import TINY, trial
from helpers.builders.teacher_networks import shaken
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill import config, methods
from raydistill.config import ConfigError, DataConfig, EvalConfig
from raydistill.data.sources import load_dataset
from raydistill.evaluation import final
from raydistill.evaluation.knn import knn_scores
from raydistill.evaluation.online import embed_split, evaluate
from raydistill.evaluation.protocols import KNN_PROTOCOLS, knn_protocol
from raydistill.evaluation.references import score_references
from raydistill.methods import MethodContext
from raydistill.training.checkpoints import latest_checkpoint
from raydistill.training.pack import Candidate

CPU = torch.device("cpu")


def reference(train, labels, queries, wanted, k, temperature=None):
    """The lowest and the highest accuracy of a vote of k neighbours that any way to break ties gives."""
    train, queries = (rows.double().numpy() for rows in (train, queries))
    train, queries = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, queries))
    low = high = 0
    for query, label in zip(queries, wanted.tolist(), strict=True):
        cosines = train @ query
        votes = Counter()
        for i in np.argsort(-cosines, kind="stable")[:k]:
            votes[labels[i].item()] += 1 if temperature is None else np.exp(cosines[i] / temperature)
        best = [name for name, count in votes.items() if np.isclose(count, max(votes.values()), rtol=1e-9)]
        low, high = low + (best == [label]), high + (label in best)
    return low / len(wanted), high / len(wanted)


def points(seed, n, classes=4):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    centres = torch.randn(classes, 5, generator=torch.Generator().manual_seed(0))
    return centres[labels] + torch.randn(n, 5, generator=generator), labels


def test_the_protocols_are_the_published_ones():
    dogo, dino, simreg, seed = (knn_protocol(EvalConfig(knn=name)) for name in ("dogo", "dino", "simreg", "seed"))
    assert (dogo.ks, dogo.also, dogo.temperature, dogo.ties, dogo.on_head) == ((1, 2, 4, 8), (), None, "nearest", False)
    assert (dino.ks, dino.temperature, dino.on_head) == ((20,), 0.07, False)
    assert sorted((*dino.ks, *dino.also)) == [10, 20, 100, 200]
    assert ((*simreg.ks, *simreg.also), simreg.temperature, simreg.ties) == ((20, 1), None, "random")
    assert (seed.ks, seed.also, seed.temperature, seed.ties, seed.on_head) == ((10,), (), None, "nearest", True)
    assert knn_protocol(EvalConfig(ks=(3,))).ks == (3,)


def test_other_protocols_have_their_own_k():
    with pytest.raises(ConfigError, match=r"ks = \[3\] belong to knn: dogo; dino has its own"):
        config.load({"method": "simclr", "eval": {"knn": "dino", "ks": [3]}})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(KNN_PROTOCOLS)))
def test_scores_lie_within_what_numpy_allows(seed, name):
    protocol = KNN_PROTOCOLS[name]
    train, labels = points(seed, 90)
    queries, wanted = points(seed + 1, 30)
    found = knn_scores("test_knn", protocol, train, labels, queries, wanted)
    assert set(found) == {"test_knn", *(f"test_knn_{k}" for k in protocol.also)}
    groups = {"test_knn": protocol.ks} | {f"test_knn_{k}": (k,) for k in protocol.also}
    for metric, ks in groups.items():
        bounds = [reference(train, labels, queries, wanted, k, protocol.temperature) for k in ks]
        low, high = np.mean(bounds, axis=0)
        # A cosine of float32 may swap two neighbours, one query in thirty.
        assert low - 1 / 30 - 1e-9 <= found[metric] <= high + 1 / 30 + 1e-9


def test_weighting_and_ties_are_told_apart():
    """Two near neighbours of class 1 outweigh 18 far ones of class 0; two against two are broken either way."""
    near, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.75**0.5]])
    train = torch.cat([near.repeat(2, 1), far.repeat(18, 1)])
    labels = torch.tensor([1] * 2 + [0] * 18)
    scores = {
        name: knn_scores("test_knn", KNN_PROTOCOLS[name], train, labels, near, torch.tensor([1]))
        for name in ("dino", "simreg", "seed")
    }
    assert scores["dino"]["test_knn"] == 1.0
    assert scores["simreg"] == {"test_knn": 0.0, "test_knn_1": 1.0}
    assert scores["seed"]["test_knn"] == 0.0
    half = torch.tensor([1] * 10 + [0] * 10)
    random = knn_scores("test_knn", KNN_PROTOCOLS["simreg"], train, half, near.repeat(200, 1), torch.ones(200).long())
    assert 0.3 < random["test_knn"] < 0.7


def evaluated(knn, method=TINY):
    values = {"method": method, "data": {"limit": 80, "batch_size": 16, "image_size": 8}, "train": {"epochs": 1}}
    return config.load({**values, "eval": {"knn": knn, "probe": "logistic"}})


def rows_of(encoder, dataset):
    splits = [embed_split(encoder.eval(), dataset, split, CPU) for split in (dataset.train, dataset.val, dataset.test)]
    return [part for split in splits for part in split]


def test_while_training_and_at_the_end_the_protocol_is_the_one_that_is_set(tmp_path):
    trial(tmp_path / "run", limit=80)
    for knn in ("dino", "simreg"):
        wanted = evaluated(knn)
        last = final.score(wanted, str(tmp_path / "run"), threads=1)
        dataset = load_dataset(wanted.data)
        method = loaded(wanted, tmp_path / "run")
        candidate = Candidate(method.encoders(), wanted.eval, method)
        online = evaluate({"a": candidate}, dataset, CPU)["a"]
        train, labels, val, val_labels, test, test_labels = rows_of(method.encoders()["student"], dataset)
        protocol = KNN_PROTOCOLS[knn]
        assert online == knn_scores("val_knn", protocol, train, labels, val, val_labels)
        assert online.items() <= last.items()
        assert knn_scores("test_knn", protocol, train, labels, test, test_labels).items() <= last.items()
        assert {f"test_knn_{k}" for k in protocol.also} <= set(last)


def loaded(wanted, folder):
    state = latest_checkpoint(folder)
    method = methods.build(wanted.method, final.artifacts.given_from(state), seed=0)
    method.load_state_dict(state["method"])
    return method


def test_seeds_protocol_looks_behind_the_head_and_the_probe_before_it(tmp_path):
    trial(tmp_path / "run", limit=80)
    wanted = evaluated("seed")
    dataset, method = load_dataset(wanted.data), loaded(wanted, tmp_path / "run")
    student, head = method.encoders()["student"], method.head()
    train, labels, val, val_labels, test, test_labels = rows_of(torch.nn.Sequential(student, head), dataset)
    assert train.shape[1] == TINY["projection_dim"]
    last = final.score(wanted, str(tmp_path / "run"), threads=1)
    online = evaluate({"a": Candidate({"student": student}, wanted.eval, method)}, dataset, CPU)["a"]
    for found, (queries, truth) in (
        (online["val_knn"], (val, val_labels)),
        (last["val_knn"], (val, val_labels)),
        (last["test_knn"], (test, test_labels)),
    ):
        low, high = reference(train, labels, queries, truth, 10)
        assert low - 1e-9 <= found <= high + 1e-9
    plain = final.score(evaluated("dogo"), str(tmp_path / "run"), threads=1)
    assert last["test_probe"] == plain["test_probe"]
    # The untrained student, too, is compared behind its head, the pixels have none.
    rows = score_references([(wanted, str(tmp_path / "run"))], [], str(tmp_path / "store"), threads=1)
    untrained = methods.build(wanted.method, MethodContext(8, 40), seed=wanted.train.seed)
    blank = rows_of(torch.nn.Sequential(untrained.encoders()["student"], untrained.head()), dataset)
    low, high = reference(blank[0], blank[1], blank[4], blank[5], 10)
    assert low - 1e-9 <= rows["untrained"][0]["test_knn"] <= high + 1e-9


def test_without_a_head_seeds_protocol_compares_the_encoders_own_features():
    method = {"name": "dogo", "backbones": ["resnet10_w4", "resnet10_w4"], "hidden_dim": 8, "projection_dim": 8}
    wanted = evaluated("seed", method)
    dataset = load_dataset(DataConfig(limit=80, image_size=8))
    network = shaken(methods.build(wanted.method, MethodContext(8, 80), seed=0))
    assert network.head() is None
    found = evaluate({"a": Candidate(network.encoders(), wanted.eval, network)}, dataset, CPU)["a"]
    for metric, name in (("val_knn", "student"), ("val_knn_peer_2", "peer_2")):
        train, labels, val, val_labels, *_ = rows_of(network.encoders()[name], dataset)
        assert found[metric] == knn_scores("x", KNN_PROTOCOLS["seed"], train, labels, val, val_labels)["x"]


def test_a_head_that_fails_fails_its_learner_alone():
    class Failing(torch.nn.Module):
        def forward(self, rows):
            raise RuntimeError("out of memory")

    wanted = evaluated("seed")
    dataset = load_dataset(DataConfig(limit=80, image_size=8))
    networks = {name: methods.build(wanted.method, MethodContext(8, 80), seed=0) for name in "ab"}
    networks["b"].head = Failing
    found = evaluate({k: Candidate(n.encoders(), wanted.eval, n) for k, n in networks.items()}, dataset, CPU)
    assert "out of memory" in str(found["b"])
    assert 0 <= found["a"]["val_knn"] <= 1


def test_every_protocol_says_in_words_what_it_is():
    words = {name: protocol.describe() for name, protocol in KNN_PROTOCOLS.items()}
    assert words == {
        "dogo": "averaged over k = 1, 2, 4, 8",
        "dino": "with k = 20, votes weighted by exp(cos / 0.07)",
        "simreg": "with k = 20, ties broken at random",
        "seed": "with k = 10, on the SSL head's output where there is a head",
    }
