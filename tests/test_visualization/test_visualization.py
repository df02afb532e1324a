import json

import cv2
import numpy as np
import pytest
import torch
from helpers import data_sample
from mmengine.structures import InstanceData

from mmdet_vanilla.visualization import contact_sheet, plot_curves


def test_curves(tmp_path):
    for run in ('20260101_000000', '20260101_000100'):
        folder = tmp_path / run / 'vis_data'
        folder.mkdir(parents=True)
        lines = [dict(loss=3.0 - i, lr=1e-3, step=i, iter=i) for i in range(3)]
        lines.append({'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_50': 0.5, 'step': 1})
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    plot_curves(tmp_path, tmp_path / 'curves.png')
    image = cv2.imread(str(tmp_path / 'curves.png'))
    assert image.shape[0] > 200 and image.std() > 10
    with pytest.raises(FileNotFoundError, match='scalars.json'):
        plot_curves(tmp_path / 'elsewhere', tmp_path / 'x.png')


def test_contact_sheet_shows_truth_and_confident_detections():
    images, samples = [], []
    for score in (0.9, 0.1, 0.9):
        sample = data_sample([[10, 10, 40, 40]], [0], (60, 80))
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([[20.0, 20, 50, 50]]),
            labels=torch.tensor([1]),
            scores=torch.tensor([score]),
        )
        images.append(np.full((60, 80, 3), 128, np.uint8))
        samples.append(sample)
    sheet = contact_sheet(images, samples, ('a', 'b'), columns=2, zoom=2)
    height, width = 120 + 8, 2 * 160 + 8
    assert sheet.shape == (2 * height, 2 * width, 3)
    tiles = [sheet[4:124, i * width + j * 160 :][:, 4:164] for i in range(2) for j in range(2)]
    drawn = [bool((tile != 128).any()) for tile in tiles]
    assert drawn == [True, True, True, False]
    assert (samples[0].gt_instances.bboxes == torch.tensor([[10.0, 10, 40, 40]])).all()
