"""All augmentations in one DetDataPreprocessor, behind mmdet's own pipeline."""

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.dataset import pseudo_collate


def test_from_an_annotated_image_to_a_batch():
    pipeline = Compose(
        [
            dict(type='RandomPhotometricDistort'),
            dict(type='Expand', mean=[0, 0, 0], to_rgb=False, ratio_range=(1, 4), prob=0.5),
            dict(type='RandomIoUCrop'),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
            dict(type='RandomFlip', prob=0.5),
            dict(type='Resize', scale=(64, 64), keep_ratio=False),
            dict(type='PackDetInputs'),
        ]
    )
    preprocessor = MODELS.build(
        dict(
            type='DetDataPreprocessor',
            mean=[0, 0, 0],
            std=[255, 255, 255],
            bgr_to_rgb=True,
            pad_size_divisor=32,
            batch_augments=[
                dict(type='BatchMosaic', prob=1.0),
                dict(type='BatchMixUp', prob=1.0),
                dict(type='BatchRandomResize', sizes=[96, (32, 64)]),
            ],
        )
    )
    preprocessor.train()
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(8):
        items = []
        for i in range(4):
            h, w = rng.integers(40, 90, 2)
            results = dict(
                img=rng.integers(0, 256, (h, w, 3), dtype=np.uint8),
                img_shape=(h, w),
                ori_shape=(h, w),
                img_id=i,
                img_path='',
                gt_bboxes=np.float32([[2, 3, 30, 35], [10, 5, w - 1, h - 2], [5, 5, 12, 20]]),
                gt_bboxes_labels=np.array([0, 1, 2]),
                gt_ignore_flags=np.array([False, False, i % 2 == 1]),
            )
            items.append(pipeline(results))
        out = preprocessor(pseudo_collate(items), training=True)
        inputs, samples = out['inputs'], out['data_samples']
        shapes.add(tuple(inputs.shape[-2:]))
        assert inputs.dtype == torch.float32 and inputs.isfinite().all()
        assert 0 <= inputs.min() and inputs.max() <= 1
        for sample in samples:
            height, width = inputs.shape[-2:]
            assert sample.batch_input_shape == sample.img_shape == (height, width)
            assert sample.ori_shape and sample.scale_factor
            truth = sample.gt_instances
            assert len(truth) == len(truth.labels) >= 2
            assert (truth.bboxes >= 0).all()
            assert (truth.bboxes[:, 2:] <= torch.tensor([width, height])).all()
            assert (truth.bboxes[:, 2:] > truth.bboxes[:, :2]).all()
    assert shapes == {(96, 96), (32, 64)}
    evaluated = preprocessor(pseudo_collate(items), training=False)
    assert evaluated['inputs'].shape[-2:] == (64, 64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_nothing_waits_for_the_device():
    from test_models.test_data_preprocessors.batches import painted_batch

    inputs, samples = painted_batch(4, (64, 64))
    inputs, samples = inputs.cuda(), [sample.cuda() for sample in samples]
    augments = [
        MODELS.build(dict(type='BatchMosaic', prob=1.0, min_size=0)),
        MODELS.build(dict(type='BatchMixUp', prob=1.0)),
        MODELS.build(dict(type='BatchRandomResize', sizes=[96])),
    ]
    torch.cuda.set_sync_debug_mode('error')
    try:
        for augment in augments:
            inputs, samples = augment(inputs, samples)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert inputs.shape[-1] == 96
