"""What a user waits for besides the network: imports, data, evaluation."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mmdet_vanilla.utils.timing import median

_FIRST_DETECTION = """
import sys, torch
from mmdet_vanilla.benchmark.cases import Detections, build_model
with torch.inference_mode():
    Detections(build_model(sys.argv[1], same_weights=False))(torch.rand(1, 3, 640, 640))
"""
STARTS = {
    'import mmdet_vanilla': 'import mmdet_vanilla',
    'import mmdet.apis, for comparison': 'import mmdet.apis',
    'import, build, first detection at 640x640': _FIRST_DETECTION,
}


def start_seconds(config: str, rounds: int = 3) -> dict[str, float]:
    """Seconds that fresh processes take to get ready, the least of some rounds.

    Args:
        config: Path of the config of a detector.
        rounds: Processes of each kind.

    Returns:
        By what the process does.
    """
    seconds = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name, code in STARTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, '-c', code, config], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def pipeline_seconds(cfg: Config, mode: str = 'train', images: int = 50) -> dict[str, float]:
    """Seconds of one worker per image: reading, augmenting, packing.

    Args:
        cfg: Config whose data are there.
        mode: ``'train'`` or ``'test'``.
        images: Images to take.

    Returns:
        Seconds per image of the pipeline, and of the data preprocessor on a batch of one.
    """
    register_all_modules(init_default_scope=True)
    dataset = DATASETS.build(cfg[f'{mode}_dataloader'].dataset)
    preprocess = MODELS.build(cfg.model.data_preprocessor)
    dataset[0]
    pipeline, preprocessor = [], []
    for index in range(images):
        start = time.perf_counter()
        data = dataset[index % len(dataset)]
        packed = time.perf_counter()
        preprocess(pseudo_collate([data]), False)
        pipeline.append(packed - start)
        preprocessor.append(time.perf_counter() - packed)
    return dict(pipeline=float(np.mean(pipeline)), preprocessor=median(preprocessor) / 1000)


def evaluation_seconds(images: int, detections: int = 100, objects: int = 7) -> float:
    """Seconds that COCO's AP takes.

    Args:
        images: Number of images.
        detections: Detections of every image.
        objects: Objects of every image, of COCO's 80 classes.
    """
    rng = np.random.default_rng(0)
    names = CocoDataset.METAINFO['classes']

    def boxes(count: int) -> np.ndarray:
        low, sides = rng.uniform(0, 400, (count, 2)), rng.uniform(10, 240, (count, 2))
        return np.concatenate([low, sides], axis=1)

    truth = [(image, boxes(objects), rng.integers(0, 80, objects)) for image in range(images)]
    content = dict(
        images=[dict(id=image, width=640, height=640) for image in range(images)],
        categories=[dict(id=i, name=name) for i, name in enumerate(names)],
        annotations=[
            dict(id=i, bbox=box.tolist(), area=float(box[2] * box[3]), iscrowd=0, **where)
            for i, (box, where) in enumerate(
                (box, dict(image_id=image, category_id=int(label)))
                for image, found, labels in truth
                for box, label in zip(found, labels)
            )
        ],
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / 'truth.json'
        path.write_text(json.dumps(content))
        metric = CocoMetric(ann_file=str(path), metric='bbox')
        metric.dataset_meta = dict(classes=names)
        start = time.perf_counter()
        for image, found, labels in truth:
            noise = rng.normal(0, 5, (objects, 4))
            extra = boxes(detections - objects)
            predicted = np.concatenate([found + noise, extra])
            predicted[:, 2:] += predicted[:, :2]
            result = dict(
                img_id=image,
                bboxes=predicted,
                scores=rng.uniform(size=detections),
                labels=np.concatenate([labels, rng.integers(0, 80, detections - objects)]),
            )
            metric.results.append((dict(img_id=image, width=640, height=640), result))
        metric.evaluate(images)
        return time.perf_counter() - start
