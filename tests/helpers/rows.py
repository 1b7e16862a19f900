"""One row per method: options that make it tiny. The conformance suite and the training tests run them all."""

import torch

from raydistill import config, methods
from raydistill.data.views.augment import View
from raydistill.methods import Batch, FeatureDims, MethodContext, TeacherOutputs
from raydistill.models.queue import TeacherBatch

SIZE = 8
HEADS = {"hidden_dim": 8, "projection_dim": 8}
ROWS = {
    "simclr": {"backbone": "resnet10_w4", **HEADS},
    "simsiam": {"backbone": "resnet10_w4", "projection_dim": 8, "predictor_dim": 4},
    "dogo": {"backbones": ["resnet10_w4", "resnet10_w8"], "simsiam_dim": 8, "predictor_dim": 4, **HEADS},
    "byol": {"backbone": "resnet10_w4", **HEADS},
    "mocov2": {"backbone": "resnet10_w4", "queue_size": 16, **HEADS},
    "mocov3": {"backbone": "resnet10_w4", **HEADS},
    "sdssl": {"backbone": "vit_w32_p4_d3", "intermediate_dim": 8, **HEADS},
    "seed": {"backbone": "resnet10_w4", "hidden_dim": 8, "queue_size": 16, "clusters": 4},
    "compress_1q": {"backbone": "resnet10_w4", "queue_size": 16},
    "compress_2q": {"backbone": "resnet10_w4", "queue_size": 16},
    "crd": {"backbone": "resnet10_w4", "embedding_dim": 8, "negatives": 16, "normalizer": "first_batch"},
    "simreg": {"backbone": "resnet10_w4"},
    "regress": {"backbone": "resnet10_w4"},
    "regress_bn": {"backbone": "resnet10_w4"},
    "supervised_kd": {"backbone": "resnet10_w4"},
    "sssd": {"backbone": "resnet10_w4", "clusters": 4},
    "cc": {"backbone": "resnet10_w4", "clusters": 4},
    "clusterfit": {"backbone": "resnet10_w4", "clusters": 4},
    # A constant weight, so that a loss that falls shows that it learns.
    "seed_blocks": {"backbone": "vit_w32_p4_d3", "hidden_dim": 8, "queue_size": 16, "alpha_schedule": "constant"},
    "simreg_exits": {"backbone": "resnet10_w4"},
}
TEACHERS = (FeatureDims(features=12, head=6), FeatureDims(features=10, head=None))
CLASSES = 4
EVAL = View("eval", 0)


def options(name, **changes):
    return config.load({"method": {"name": name, **ROWS[name], **changes}}).method


def given(name="", teachers=1, **changes):
    values = {"image_size": SIZE, "images": 64, "class_counts": (16,) * CLASSES, "teachers": TEACHERS[:teachers]}
    return MethodContext(**{**values, **changes})


def make(name, seed=0, teachers=1, **changes):
    """The method of a row, its weights drawn from `seed`."""
    return methods.build(options(name, **changes), given(name, teachers), seed=seed)


def teacher_of(embed, gather=lambda rows: rows):
    """A teacher that is a plain function of a view and an output; its queues share nothing."""
    return TeacherOutputs(embed, lambda view, output: TeacherBatch(gather(embed(view, output))))


def batch_for(method, n=6, seed=0, teachers=1, gather=None):
    """Random views that depend on the view alone, fixed teachers that are functions of the view, and labels."""

    def draw(view):
        generator = torch.Generator().manual_seed(seed * 1000 + view.draw + 100 * (view.recipe == "eval"))
        return torch.randn(n, 3, SIZE, SIZE, generator=generator)

    views = {view: draw(view) for view in method.views}

    extra = {} if gather is None else {"gather": gather}

    def teacher(index):
        def embed(view, output):
            width = getattr(TEACHERS[index], output)
            generator = torch.Generator().manual_seed(width)
            weight = torch.randn(3 * SIZE * SIZE, width, generator=generator)
            return draw(view).flatten(1) @ weight

        return teacher_of(embed, **extra)

    return Batch(
        views,
        torch.arange(n),
        teachers=[teacher(i) for i in range(teachers)],
        labels=torch.arange(n) % CLASSES,
        **extra,
    )
