"""COCO's metrics of stored detections, by pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet_vanilla.utils.atomic import write_text

from .dataset import Split
from .detectors import Detector

# Names of pycocotools' statistics, in its order.
STATS = ('AP', 'AP50', 'AP75', 'AP_small', 'AP_medium', 'AP_large', 'AR1', 'AR10', 'AR100')
STATS += ('AR_small', 'AR_medium', 'AR_large')
_AREA_ALL, _MAX_DETECTIONS = 0, -1


def to_coco(
    found: InstanceData, image_id: int, categories: Mapping[int, int]
) -> list[dict[str, object]]:
    """Detections of one image as COCO's results.

    Args:
        found: ``bboxes`` (N, 4) as x1, y1, x2, y2 in pixels of the file, ``scores``, ``labels``.
        image_id: Id of the image.
        categories: Label to id of the category; other labels are left out.
    """
    boxes = np.asarray(found.bboxes.detach().cpu(), dtype=np.float64).reshape(-1, 4)
    results = []
    for box, score, label in zip(boxes, found.scores.tolist(), found.labels.tolist()):
        if label in categories:
            x, y, right, bottom = box.tolist()
            results.append(
                dict(
                    image_id=image_id,
                    category_id=categories[label],
                    bbox=[x, y, right - x, bottom - y],
                    score=score,
                )
            )
    return results


def detect_split(
    detector: Detector,
    split: Split,
    categories: Mapping[int, int],
    out_file: Path,
    on_image: Callable[[int], None] = lambda done: None,
) -> list[dict]:
    """Runs a detector over a split, one image at a time.

    Args:
        detector: The detector.
        split: Images that can all be read.
        categories: Label to id of the category.
        out_file: COCO result file; it is there as a whole or not at all.
        on_image: Called with the number of images done.

    Returns:
        What was written.
    """
    results = []
    for i, image in enumerate(split.content['images'], 1):
        loaded = detector.load(str(split.path_of(image)), image['id'])
        [found] = detector.predict(detector.preprocess([loaded]))
        results += to_coco(found, image['id'], categories)
        on_image(i)
    write_text(out_file, json.dumps(results))
    return results


class Evaluation:
    """COCO evaluation of one detector.

    Args:
        split: The data.
        detections: COCO results.

    Attributes:
        coco_eval: pycocotools' evaluation after ``accumulate``.
        stats: COCO's twelve statistics by name (see :data:`STATS`), 0..1; ``None`` where nothing
            of that size occurs.
    """

    def __init__(self, split: Split, detections: Sequence[dict]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = copy.deepcopy(split.content)
            for annotation in truth.dataset['annotations']:
                annotation.setdefault('iscrowd', 0)
                annotation.setdefault('area', annotation['bbox'][2] * annotation['bbox'][3])
            truth.createIndex()
            # loadRes refuses an empty list.
            results = truth.loadRes(list(detections)) if detections else _no_results(split)
            self.coco_eval = COCOeval(truth, results, 'bbox')
            self.coco_eval.evaluate()
            self.coco_eval.accumulate()
            self.coco_eval.summarize()
        values = (float(value) for value in self.coco_eval.stats)
        self.stats = {k: None if v < 0 else v for k, v in zip(STATS, values)}
        names = {category['id']: category['name'] for category in split.content['categories']}
        self.classes = [names[i] for i in self.coco_eval.params.catIds]

    @property
    def per_class(self) -> dict[str, float | None]:
        """AP of every class, 0..1; ``None`` where it does not occur."""
        precision = self.coco_eval.eval['precision'][:, :, :, _AREA_ALL, _MAX_DETECTIONS]
        return {
            name: None if (precision[:, :, k] < 0).all() else float(precision[:, :, k].mean())
            for k, name in enumerate(self.classes)
        }

    def precision_recall(self, iou: float = 0.5) -> list[float]:
        """Precision at recalls 0, 0.01, ..., 1, averaged over the classes that occur.

        Args:
            iou: Least IoU of a match, one of 0.5, 0.55, ..., 0.95.
        """
        row = int(np.argmin(np.abs(self.coco_eval.params.iouThrs - iou)))
        precision = self.coco_eval.eval['precision'][row, :, :, _AREA_ALL, _MAX_DETECTIONS]
        occurring = precision[:, (precision >= 0).any(0)]
        return occurring.mean(1).tolist() if occurring.size else []


def _no_results(split: Split) -> COCO:
    results = COCO()
    results.dataset = dict(
        images=split.content['images'], categories=split.content['categories'], annotations=[]
    )
    results.createIndex()
    return results
