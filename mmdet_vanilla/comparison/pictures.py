"""Detections of several detectors beside the ground truth, as small JPEG files in text form."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import cv2
import mmcv
import numpy as np
import torch
from mmengine.structures import InstanceData

from mmdet_vanilla.visualization import draw_instances

from .dataset import Split
from .disagreements import none_found

_QUALITY = 78


def data_uri(picture: np.ndarray) -> str:
    """A picture as text that a page can hold.

    Args:
        picture: RGB (H, W, 3), uint8.
    """
    ok, buffer = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not ok:
        raise ValueError(f'no JPEG can be made of a picture of shape {picture.shape}.')
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer).decode()


def truth_of(split: Split, image_id: int) -> InstanceData:
    """Boxes of an image, crowds left out, labels as ids of categories."""
    entries = [
        a
        for a in split.content['annotations']
        if a['image_id'] == image_id and not a.get('iscrowd')
    ]
    boxes = torch.tensor([a['bbox'] for a in entries], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.tensor([a['category_id'] for a in entries], dtype=torch.long)
    return InstanceData(bboxes=boxes, labels=labels)


def side_by_side(
    split: Split,
    image_id: int,
    detections: Mapping[str, Mapping[int, InstanceData]],
    size: int = 320,
) -> list[tuple[str, str]]:
    """Ground truth and the detections of every detector on one image.

    Args:
        split: The data.
        image_id: Id of the image.
        detections: By name of the detector and id of the image, labels as ids of categories.
        size: Longer side of a picture in pixels.

    Returns:
        Captions and pictures by :func:`data_uri`, the ground truth first.
    """
    image = next(image for image in split.content['images'] if image['id'] == image_id)
    pixels = mmcv.imread(str(split.path_of(image)), channel_order='rgb')
    label_of = {category: i for i, category in enumerate(split.category_ids)}
    meta = dict(classes=split.classes)

    def draw(instances: InstanceData) -> str:
        instances = instances.clone()
        labels = [label_of[category] for category in instances.labels.tolist()]
        instances.labels = torch.tensor(labels, dtype=torch.long)
        return data_uri(draw_instances(pixels, instances, meta, size, score_thr=0.0))

    truth = truth_of(split, image_id)
    pictures = [(f'ground truth ({len(truth)})', draw(truth))]
    for name, images in detections.items():
        found = images.get(image_id, none_found())
        pictures.append((f'{name} ({len(found)})', draw(found)))
    return pictures


def spread(image_ids: Sequence[int], number: int) -> list[int]:
    """Some of many, evenly spread."""
    places = np.linspace(0, len(image_ids) - 1, min(number, len(image_ids))).round().astype(int)
    return [image_ids[i] for i in places]
