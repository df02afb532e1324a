"""A small detector with a config of its own, as a checkpoint, and images to run it on."""

import copy

import cv2
import numpy as np
import torch
from helpers import CONFIGS, TINY_RTDETR, stand_in_weights
from mmdet.registry import MODELS
from mmengine.config import Config

DEPLOY = CONFIGS / 'deploy'
NAMES = ('cat', 'hund', 'käse', 'ねこ')


def tiny_config(size=(96, 128), **model):
    """Config of a detector for images of ``size`` (height, width)."""
    settings = copy.deepcopy(TINY_RTDETR)
    for part, change in model.items():
        settings[part] = {**settings[part], **change}
    settings['data_preprocessor'] = dict(
        type='DetDataPreprocessor',
        mean=[123.0, 116.0, 103.0],
        std=[58.0, 57.0, 57.0],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    )
    return Config(
        dict(
            model=settings,
            default_scope='mmdet',
            test_pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='Resize', scale=size[::-1], keep_ratio=False),
                dict(
                    type='PackDetInputs',
                    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
                ),
            ],
        )
    )


def tiny_checkpoint(cfg, path):
    """A checkpoint whose detections vary with the image."""
    model = stand_in_weights(MODELS.build(copy.deepcopy(cfg.model)))
    meta = dict(dataset_meta=dict(classes=NAMES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return str(path)


def photos(folder, num=2, size=(150, 200)):
    """Paths of images with some structure."""
    paths = []
    for i in range(num):
        image = np.random.default_rng(i).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        paths.append(str(folder / f'photo{i}.png'))
        cv2.imwrite(paths[-1], cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC))
    return paths


def deploy_config(name, size=(96, 128)):
    """One of configs/deploy, for a static size (height, width) where it is static."""
    cfg = Config.fromfile(DEPLOY / f'{name}.py')
    for key in ('onnx_config', 'ir_config'):
        if cfg.get(key) and cfg[key].get('input_shape'):
            cfg[key].input_shape = list(size[::-1])
    return cfg
