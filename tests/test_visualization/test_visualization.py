import json
import random

import cv2
import numpy as np
import pytest
import torch
from helpers import data_sample
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models import DetDataPreprocessor
from mmdet.registry import DATASETS
from mmengine.structures import InstanceData
from torch import nn

from mmdet_vanilla.visualization import (
    augment_batch,
    contact_sheet,
    draw_augmented_batch,
    draw_instances,
    grid,
    ground_truth,
    learning_curves_figure,
    plot_curves,
    read_scalars,
    split_scalars,
)

META = dict(classes=('a', 'b'))


def write_run(work_dir, run, first, last, epoch=2):
    """Log lines of one run, with a validation after every epoch."""
    folder = work_dir / run / 'vis_data'
    folder.mkdir(parents=True)
    lines = []
    for i in range(first, last + 1):
        loss = {'loss': 3.0 / i, 'd0.loss_cls': 1.0 / i, 'loss_cls': 0.5 / i}
        lines.append(dict(loss, lr=1e-3, run=run, iter=i, step=i, epoch=(i - 1) // epoch + 1))
        if i % epoch == 0:
            lines.append({'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_s': -1.0, 'step': i // epoch})
    text = '\n'.join(map(json.dumps, lines))
    (folder / 'scalars.json').write_text(text + '\n{"loss": 1')  # killed


@settings(max_examples=25, deadline=None)
@given(runs=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 6)), min_size=1, max_size=4))
def test_resumed_runs_count_once(runs, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('run')
    last, owner = 0, {}
    for n, (start, length) in enumerate(runs):
        first = min(start, last + 1)
        write_run(work_dir, f'2026010{n}_000000', first, first + length)
        last = first + length
        owner = {i: run for i, run in owner.items() if i < first}
        owner.update(dict.fromkeys(range(first, last + 1), f'2026010{n}_000000'))
    train, val = split_scalars(read_scalars(work_dir))
    assert {entry['iter']: entry['run'] for entry in train} == owner
    assert [entry['iter'] for entry in train] == list(range(1, last + 1))
    assert [entry['step'] for entry in val] == list(range(1, last // 2 + 1))


def test_reading_the_last_run_alone(tmp_path):
    write_run(tmp_path, '20260101_000000', 1, 9)
    write_run(tmp_path, '20260102_000000', 1, 4)
    train, _ = split_scalars(read_scalars(tmp_path, since='20260102_000000'))
    assert len(train) == 4
    with pytest.raises(FileNotFoundError, match='scalars.json.*LocalVisBackend'):
        read_scalars(tmp_path / 'elsewhere')


def test_names_with_the_mode(tmp_path):
    folder = tmp_path / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    lines = [{'train/loss': 1.0, 'iter': 1, 'step': 1}, {'val/coco/bbox_mAP': 0.5, 'step': 1}]
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    train, val = split_scalars(read_scalars(tmp_path))
    assert train[0]['loss'] == 1.0 and val == [{'coco/bbox_mAP': 0.5, 'step': 1}]


@pytest.mark.parametrize('last', [1, 9])
def test_curves(tmp_path, last):
    write_run(tmp_path, '20260101_000000', 1, last)
    plot_curves(read_scalars(tmp_path), tmp_path / 'curves.png')
    image = cv2.imread(str(tmp_path / 'curves.png'))
    assert min(image.shape[:2]) > 500 and image.std() > 10


def test_curves_without_a_log(tmp_path):
    plot_curves([], tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').exists()


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=7),
    columns=st.integers(1, 9),
    captions=st.booleans(),
)
def test_a_grid_shows_every_pixel_of_pictures_of_any_sizes(sizes, columns, captions):
    pictures = [np.full((*size, 3), i + 1, np.uint8) for i, size in enumerate(sizes)]
    sheet = grid(pictures, columns, [f'picture {i}' for i in range(len(sizes))] * captions)
    for i, (height, width) in enumerate(sizes):
        rows, cols = np.nonzero((sheet == i + 1).all(-1))
        # Greys of a caption's edges are other pixels than those of the rectangle.
        assert np.ptp(rows) + 1 == height and np.ptp(cols) + 1 == width
        assert len(rows) == height * width


def test_a_grid_of_nothing():
    with pytest.raises(ValueError, match='at least one picture'):
        grid([], 2)


def instances(boxes, scores=None):
    fields = dict(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
    )
    if scores is not None:
        fields['scores'] = torch.tensor(scores)
    return InstanceData(**fields)


@pytest.mark.parametrize('shape', [(60, 80), (80, 60), (600, 900)])
@pytest.mark.parametrize('palette', [None, 'random', [(255, 0, 0)]])
def test_boxes_are_drawn_where_they_are(shape, palette):
    image = np.full((*shape, 3), 128, np.uint8)
    box = [0.25 * shape[1], 0.5 * shape[0], 0.5 * shape[1], 0.75 * shape[0]]
    truth = instances([box, [-9, -9, 2 * shape[1], 2 * shape[0]]])
    before = truth.bboxes.clone()
    picture = draw_instances(image, truth[:1], dict(META, palette=palette), size=320)
    assert max(picture.shape[:2]) == 320
    height, width = picture.shape[:2]
    edge = picture[round(0.625 * height), round(0.25 * width)]
    assert np.ptp(edge.astype(int)) > 100  # a colour
    assert (picture[round(0.6 * height), round(0.4 * width)] == 128).all()
    # Boxes that reach beyond the image leave the size as it is.
    assert draw_instances(image, truth, META, size=320).shape == picture.shape
    assert torch.equal(truth.bboxes, before)


def test_doubtful_detections_are_not_drawn():
    image = np.full((60, 80, 3), 128, np.uint8)
    doubtful = instances([[10, 10, 40, 40]], [0.2])
    assert (draw_instances(image, doubtful, META) == 128).all()
    assert (draw_instances(image, doubtful, META, score_thr=0.1) != 128).any()
    assert (draw_instances(image, instances([]), META) == 128).all()


def test_contact_sheet_of_different_sizes():
    images, samples = [], []
    for shape, score in (((60, 80), 0.9), ((90, 30), 0.1), ((64, 64), 0.9)):
        sample = data_sample([[10, 10, 28, 40]], [0], shape)
        sample.pred_instances = instances([[5, 20, 20, 50]], [score])
        images.append(np.full((*shape, 3), 128, np.uint8))
        samples.append(sample)
    sheet = contact_sheet(images, samples, META, columns=2, size=160)
    width = sheet.shape[1] // 4
    assert width >= 160 and sheet.shape[0] > 2 * 160
    rows = [sheet[: sheet.shape[0] // 2], sheet[sheet.shape[0] // 2 :]]
    tiles = [row[:, i * width : (i + 1) * width] for row in rows for i in range(4)]
    coloured = [bool((np.ptp(tile.astype(int), axis=-1) > 100).any()) for tile in tiles]
    assert coloured == [True, True, True, False, True, True, False, False]


class RandomShift(nn.Module):
    """A batch augmentation that has a state, draws random numbers, and changes its input."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, inputs, data_samples):
        self.calls += 1
        inputs += torch.rand(1) + np.random.rand() + random.random()
        for sample in data_samples:
            sample.gt_instances.bboxes += 1
        return inputs, data_samples


def batch_of(images):
    samples = [data_sample([[4, 4, 20, 20]], [0], image.shape[1:]) for image in images]
    return dict(inputs=images, data_samples=samples)


def test_augmenting_a_batch_leaves_no_trace():
    preprocessor = DetDataPreprocessor(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True)
    preprocessor.batch_augments = [RandomShift()]
    data = batch_of([torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8)] * 2)
    shown = augment_batch(data, preprocessor)
    assert preprocessor.batch_augments[0].calls == 0
    assert data['data_samples'][0].gt_instances.bboxes[0, 0] == 4
    trained = preprocessor(data, training=True)
    assert torch.equal(shown['inputs'], trained['inputs'])
    assert shown['data_samples'][0].gt_instances.bboxes[0, 0] == 5


@pytest.mark.parametrize(
    'settings', [dict(), dict(mean=[100, 110, 120], std=[50, 60, 70]), dict(mean=[0], std=[255])]
)
@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_a_drawn_batch_has_the_colours_of_the_files(settings, bgr_to_rgb):
    preprocessor = DetDataPreprocessor(
        pad_size_divisor=32, batch_augments=None, bgr_to_rgb=bgr_to_rgb, **settings
    )
    blue = torch.tensor([250, 20, 10], dtype=torch.uint8).view(3, 1, 1).expand(3, 64, 50)
    shown = augment_batch(batch_of([blue] * 3), preprocessor)
    sheet = draw_augmented_batch(shown, preprocessor, META, num_images=2, size=64)
    assert sheet.shape[1] == 2 * (64 + 8)
    assert (sheet[60, 30] == (10, 20, 250)).all()


def test_ground_truth_is_that_of_the_file(tmp_path):
    annotations = [
        dict(id=1, image_id=1, category_id=2, bbox=[2, 3, 20, 30], area=600, iscrowd=0),
        dict(id=2, image_id=1, category_id=1, bbox=[0, 0, 40, 40], area=1600, iscrowd=1),
    ]
    images = [dict(id=i, file_name=f'{i}.png', height=50, width=90) for i in (1, 2, 3)]
    categories = [dict(id=1, name='a'), dict(id=2, name='b')]
    content = dict(images=images, annotations=annotations, categories=categories)
    (tmp_path / 'a.json').write_text(json.dumps(content))
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            ann_file=str(tmp_path / 'a.json'),
            data_prefix=dict(img='images'),
            metainfo=META,
            pipeline=[dict(type='LoadAnnotations', with_bbox=True)],
        )
    )
    truth = ground_truth(dataset, ['images/1.png', 'images/3.png'])
    assert truth['images/1.png'].bboxes.tolist() == [[2, 3, 22, 33]]
    assert truth['images/1.png'].labels.tolist() == [1]
    assert truth['images/3.png'].bboxes.shape == (0, 4) and len(truth) == 2


def test_learning_curves(tmp_path):
    curves = dict(a=[(60, 0.1, 0.2), (120, 0.3, 0.5)], b=[(60, 0.2, 0.4)])
    learning_curves_figure(curves).savefig(tmp_path / 'race.png', dpi=120)
    picture = cv2.imread(str(tmp_path / 'race.png'))
    assert picture.shape[:2] == (480, 1200) and picture.std() > 10
