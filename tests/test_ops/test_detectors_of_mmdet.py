"""Detectors of mmdet's zoo that use mmcv's operators train and detect, whatever operators serve."""

import subprocess
import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.hub import get_config

from mmdet_vanilla.ops import using_stand_ins

# By the operator that each is here for.
ZOO = {
    'nms': 'retinanet/retinanet_r18_fpn_1x_coco.py',
    'nms of many classes': 'yolox/yolox_tiny_8xb8-300e_coco.py',
    'softnms': 'faster_rcnn/faster-rcnn_r50_fpn_soft-nms_1x_coco.py',
    'roi_align': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'roi_pool': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'ms_deform_attn': 'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'deform_conv': 'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py',
    'modulated_deform_conv': 'dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py',
    'masked_im2col': 'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py',
    'carafe': 'carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py',
}
# A compiled mmcv has these for GPUs alone.
NOT_COMPILED_FOR_CPUS = ('roi_pool', 'masked_im2col', 'carafe')


FAST = ('nms', 'roi_align')


@pytest.mark.parametrize(
    'operator', [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in ZOO]
)
def test_a_detector_of_the_zoo_trains_and_detects(operator):
    if operator in NOT_COMPILED_FOR_CPUS and not using_stand_ins():
        pytest.skip(f'the compiled mmcv has {operator} for GPUs alone')
    cfg = get_config(f'mmdet::{ZOO[operator]}').model
    cfg.backbone.init_cfg = None
    cfg.data_preprocessor.batch_augments = (
        None  # YOLOX's changes sizes with the training's iterations
    )
    if operator == 'roi_pool':
        cfg.roi_head.bbox_roi_extractor.roi_layer = dict(type='RoIPool', output_size=7)
    model = MODELS.build(cfg)
    model.init_weights()
    data = demo_mm_inputs(1, [[3, 64, 96]])
    losses, _ = model.parse_losses(model(**model.data_preprocessor(data, True), mode='loss'))
    losses.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert torch.isfinite(losses) and grads and all(grad.isfinite().all() for grad in grads)
    model.eval()
    with torch.no_grad():
        for found in model(**model.data_preprocessor(data, False), mode='predict'):
            assert found.pred_instances.bboxes.isfinite().all()


def test_scripts_of_mmdet_that_need_an_operator_first_can_be_run(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text('import sys, mmdet.models\nprint(sys.argv[1:])\n')
    command = [sys.executable, '-m', 'mmdet_vanilla.ops', str(script), 'config.py', '--out', 'x']
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "['config.py', '--out', 'x']"
