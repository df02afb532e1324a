"""COCO data of which single images may be missing or damaged."""

from __future__ import annotations

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from ..utils.errors import UserError
from ..utils.images import ImageError
from .transforms.loading import LoadImageFromFile

# More than this many in a row are no accident.
_MOST_IN_A_ROW = 100


class UnreadableImagesError(UserError, ValueError):
    """So many images cannot be read that training makes no sense."""


@DATASETS.register_module()
class RobustCocoDataset(CocoDataset):
    """mmdet's ``CocoDataset``, which can go on where an image cannot be read.

    Another image than asked for says so: its data sample has ``left_out_images``, a list of
    sentences, which :class:`LeftOutImagesHook` collects. What takes an image's place depends on its
    index alone and uses no random numbers, so that runs can be repeated.

    Args:
        unreadable: What to do with an image that is missing or damaged. ``'skip'``: the next
            readable image takes its place, in training only. ``'blank'``: a black image of the
            annotated size does, so that in validation its objects count as missed. ``'raise'``: an
            :class:`ImageError`. By default training skips and evaluation raises.
        kwargs: Of ``CocoDataset``.

    Raises:
        ValueError: If ``unreadable`` is another word, or skips where every image counts.
    """

    def __init__(self, *args, unreadable: str | None = None, **kwargs) -> None:
        test_mode = kwargs.get('test_mode', False)
        unreadable = unreadable or ('raise' if test_mode else 'skip')
        allowed = ('blank', 'raise') if test_mode else ('skip', 'blank', 'raise')
        if unreadable not in allowed:
            raise ValueError(
                f'unreadable={unreadable!r} with test_mode={test_mode}: expected one of {allowed}.'
            )
        self.unreadable = unreadable
        super().__init__(*args, **kwargs)

    def prepare_data(self, idx: int) -> dict | None:
        """Data of an image, or of what takes its place.

        Args:
            idx: Index of the image.

        Returns:
            ``inputs`` and ``data_samples``, or what else the pipeline makes.

        Raises:
            ImageError: If the image cannot be read and ``unreadable`` says so.
            UnreadableImagesError: If it and many after it cannot be read.
        """
        left_out = []
        most = min(len(self), _MOST_IN_A_ROW)
        for step in range(most):
            try:
                data = super().prepare_data((idx + step) % len(self))
            except ImageError as error:
                if self.unreadable == 'raise':
                    raise
                left_out.append(str(error))
                data = self._blank(idx) if self.unreadable == 'blank' else None
            if data is not None:
                if left_out and isinstance(data, dict) and 'data_samples' in data:
                    data['data_samples'].set_metainfo(dict(left_out_images=left_out))
                return data
            if self.test_mode:
                return None
        raise UnreadableImagesError(
            f'{most} images of {self.ann_file} in a row cannot be used, the first because: '
            f'{left_out[0] if left_out else "the pipeline returns nothing for them"} '
            'tools/check_data.py lists what is wrong.'
        )

    def _blank(self, idx: int) -> dict | None:
        results = self.get_data_info(idx)
        shape = (max(1, results['height']), max(1, results['width']))
        for transform in self.pipeline.transforms:
            if isinstance(transform, LoadImageFromFile):
                results.update(
                    img=np.zeros((*shape, 3), np.uint8), img_shape=shape, ori_shape=shape
                )
            elif results is not None:
                results = transform(results)
        return results
