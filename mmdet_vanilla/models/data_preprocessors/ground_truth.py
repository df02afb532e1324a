"""The ground truth of a batch, as batch augmentations read and replace it."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

# Both are in the pixels of the batch, and whatever moves one moves the other.
FIELDS = ('gt_instances', 'ignored_instances')


def check_batch(
    owner: object, data_samples: Sequence[DetDataSample], least: int = 1, with_masks: bool = False
) -> None:
    """Checks that an augmentation can treat all that a batch holds.

    Args:
        owner: The augmentation, which the messages name.
        data_samples: Of the batch.
        least: Images that it needs, >= 1.
        with_masks: Whether it treats instance masks.

    Raises:
        ValueError: If there are too few images, or annotations that would not follow the images.
    """
    name = type(owner).__name__
    if len(data_samples) < least:
        raise ValueError(
            f'{name} got a batch of {len(data_samples)}, expected {least} images or more to '
            f'combine: set batch_size >= {least} and drop_last=True in train_dataloader, or take '
            f'{name} out of batch_augments'
        )
    for sample in data_samples:
        if 'gt_sem_seg' in sample:
            raise ValueError(
                f'{name} got a semantic segmentation map, expected none, since it would not follow '
                'the image: set with_seg=False in LoadAnnotations'
            )
        for field in FIELDS:
            instances = sample.get(field, {})
            if 'masks' in instances and not with_masks:
                raise ValueError(
                    f'{name} got masks in {field}, expected boxes and labels only, since masks '
                    'would not follow the image: set with_mask=False in LoadAnnotations'
                )
            if 'bboxes' in instances and not isinstance(instances.bboxes, Tensor):
                raise ValueError(
                    f'{name} got {type(instances.bboxes).__name__} in {field}, expected a tensor '
                    '(N, 4): set boxtype2tensor=True in the data preprocessor'
                )


def instances_of(sample: DetDataSample) -> dict[str, InstanceData]:
    """Those fields of a data sample that hold boxes.

    Args:
        sample: Of one image.

    Returns:
        The instances, by ``FIELDS``.
    """
    return {field: sample.get(field) for field in FIELDS if 'bboxes' in sample.get(field, {})}


def concatenate(parts: Sequence[dict[str, InstanceData]]) -> dict[str, InstanceData]:
    """Joins the instances of several images.

    Args:
        parts: Of every image, by ``FIELDS``.

    Returns:
        Those of all images in order, by ``FIELDS``.
    """
    return {
        field: InstanceData.cat([part[field] for part in parts if field in part])
        for field in FIELDS
        if any(field in part for part in parts)
    }


def replace(
    sample: DetDataSample, instances: dict[str, InstanceData], metainfo: dict
) -> DetDataSample:
    """A data sample with other ground truth; the one passed in stays as it is.

    Args:
        sample: Of one image.
        instances: What replaces the fields of that name.
        metainfo: What replaces the metainfo of that name.

    Returns:
        A new data sample.
    """
    sample = sample.new()
    sample.set_metainfo(metainfo)
    sample.set_data(instances)
    return sample
