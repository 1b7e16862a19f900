"""A tiny COCO in the layout of the real one."""

import json

import numpy as np
from PIL import Image

# A rectangle as a polygon, one as uncompressed run lengths (column by column), and a crowd.
POLYGON = [[8, 8, 24, 8, 24, 40, 8, 40]]
RUNS = {"size": [48, 48], "counts": [48 * 30 + 10, *([20, 28] * 9), 20, 18 + 48 * 8]}  # columns 30 to 39, rows 10 to 29


def draw_coco(folder, train=4, test=2):
    """Returns: the folder, with two categories numbered 3 and 7."""
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("train2017", train), ("val2017", test)):
        (folder / split).mkdir()
        images, annotations = [], []
        for number in range(1, count + 1):
            name = f"{number:012d}.jpg"
            pixels = np.full((48, 48, 3), 120, np.uint8)
            pixels[8:40, 8:24] = (250, 30, 30)
            pixels[10:30, 30:40] = (20, 30, 240)
            Image.fromarray(pixels).save(folder / split / name)
            images.append({"id": number, "file_name": name, "width": 48, "height": 48})
            for kind, box, outline, crowd in (
                (7, [8, 8, 16, 32], POLYGON, 0),
                (3, [30, 10, 10, 20], RUNS, 0),
                (3, [0, 42, 48, 6], {"size": [48, 48], "counts": [*([42, 6] * 48), 0]}, 1),
            ):
                own = {"id": len(annotations) + 1, "image_id": number, "category_id": kind, "bbox": box}
                own |= {"segmentation": outline, "area": box[2] * box[3], "iscrowd": crowd}
                annotations.append(own)
        content = {"images": images, "annotations": annotations}
        content["categories"] = [{"id": 7, "name": "red"}, {"id": 3, "name": "blue"}]
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder
