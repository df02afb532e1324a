"""Ground truth in pixels of the image file, whatever the pipeline does."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmengine.dataset import BaseDataset
from mmengine.structures import InstanceData


def ground_truth(dataset: BaseDataset, img_paths: Iterable[str]) -> dict[str, InstanceData]:
    """Reads boxes from the annotations of a data set.

    The ``gt_instances`` of a data sample are at the size of the model's input or of the file, as
    ``LoadAnnotations`` stands before or after ``Resize``, or absent where a pipeline loads none.

    Args:
        dataset: Data set whose items have ``img_path`` and, where they are annotated,
            ``instances`` with ``bbox`` (x1, y1, x2, y2) and ``bbox_label``.
        img_paths: Which images.

    Returns:
        By path: ``bboxes`` (N, 4) and ``labels`` (N,), without ignored (crowd) boxes.
    """
    wanted, found = set(img_paths), {}
    for i in range(len(dataset)):
        if len(found) == len(wanted):
            break
        info = dataset.get_data_info(i)
        if info['img_path'] not in wanted:
            continue
        instances = [item for item in info.get('instances', ()) if not item.get('ignore_flag')]
        found[info['img_path']] = InstanceData(
            bboxes=torch.tensor([item['bbox'] for item in instances]).float().reshape(-1, 4),
            labels=torch.tensor([item['bbox_label'] for item in instances], dtype=torch.long),
        )
    return found
