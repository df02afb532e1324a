import re
import types

import pytest
import torch
from helpers import TINY_RTDETR
from mmdet.registry import HOOKS, MODELS
from mmengine.dataset import BaseDataset
from mmengine.runner import ValLoop

from mmdet_vanilla.engine import ChannelsLastHook, CheckDatasetHook, SwitchToDeployHook
from mmdet_vanilla.engine.hooks import ClassRowsHook
from mmdet_vanilla.engine.hooks.check_dataset_hook import DatasetError, check_dataset


class Listed(BaseDataset):
    METAINFO = dict(classes=('a', 'b', 'c', 'd'))

    def load_data_list(self):
        return [dict(i=i) for i in range(self.size)]

    def __init__(self, size=3, classes=None):
        self.size = size
        super().__init__(metainfo=classes and dict(classes=classes), serialize_data=False)


@pytest.fixture(scope='module')
def model():
    return MODELS.build(dict(TINY_RTDETR, _scope_='mmdet'))


def test_a_fitting_data_set(model):
    check_dataset(Listed(), model, 'training')


@pytest.mark.parametrize(
    'dataset, message',
    [
        (dict(size=0), 'the training data set .* holds no image'),
        (dict(classes=('a', 'b')), 'has 2 classes, but the model was built for 4.*num_classes=2'),
        (dict(classes='a'), "is the string 'a'"),
    ],
)
def test_data_sets_that_do_not_fit(model, dataset, message):
    with pytest.raises(DatasetError, match=message):
        check_dataset(Listed(**dataset), model, 'training')


def test_the_hook_checks_every_loop_that_was_built(model):
    loop = ValLoop.__new__(ValLoop)
    loop.dataloader = types.SimpleNamespace(dataset=Listed(0))
    runner = types.SimpleNamespace(
        model=model, _train_loop=dict(type='EpochBasedTrainLoop'), _val_loop=loop, _test_loop=None
    )
    with pytest.raises(DatasetError, match='validation data set'):
        HOOKS.build(dict(type='CheckDatasetHook')).before_run(runner)
    runner._val_loop = None
    CheckDatasetHook().before_run(runner)


def test_switch_to_deploy_hook(model):
    logger = types.SimpleNamespace(info=lambda text: None)
    SwitchToDeployHook().before_test(types.SimpleNamespace(model=model, logger=logger))
    assert model.backbone.deploy and model.neck.fpn_blocks[0].bottlenecks[0].deploy


def test_channels_last_hook(model):
    ChannelsLastHook().before_run(types.SimpleNamespace(model=model))
    weight = model.neck.downsample_convs[0].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


@pytest.mark.parametrize(
    ('head', 'known', 'expected'),
    [
        ('RetinaHead', 'bxyz', r'Kept for 1 with the same name \(b\); 1 start new \(q\)'),
        ('RetinaHead', 'xb', 'of a RetinaHead .* cannot be told: since there are as many, all are'),
        ('YOLOV3Head', 'bxyz', 'of a YOLOV3Head .* those of another shape start new, for all'),
    ],
)
def test_fine_tuning_says_what_of_the_classes_is_kept(head, known, expected):
    said = []
    channels = dict(out_channels=[8] * 3) if head == 'YOLOV3Head' else dict(feat_channels=8)
    channels['in_channels'] = [8] * 3 if head == 'YOLOV3Head' else 8
    before, model = (
        MODELS.build(dict(type=head, num_classes=number, **channels)) for number in (len(known), 2)
    )
    dataset = types.SimpleNamespace(metainfo=dict(classes=('b', 'q')))
    runner = types.SimpleNamespace(
        model=model,
        logger=types.SimpleNamespace(info=said.append, warning=said.append),
        _load_from='x.pth',
        _resume=False,
        _train_loop=types.SimpleNamespace(dataloader=types.SimpleNamespace(dataset=dataset)),
    )
    meta = dict(dataset_meta=dict(classes=tuple(known)))
    ClassRowsHook().after_load_checkpoint(runner, dict(meta=meta, state_dict=before.state_dict()))
    assert len(said) == 1 and re.search(expected, said[0]), said
