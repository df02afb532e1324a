"""From mmdeploy's side: its own functions, with our deploy configs."""

import json

import numpy as np
import onnx
import pytest
import torch
from deploy_helpers import NAMES, deploy_config, photos, tiny_checkpoint, tiny_config

from mmdet_vanilla.deploy.exporter import load_model
from mmdet_vanilla.deploy.runtimes import load_onnxruntime
from mmdet_vanilla.deploy.verify import TOLERANCES, verify


def model_config():
    cfg = tiny_config()
    cfg.model.test_cfg = dict(max_per_img=300)
    dataset = dict(type='CocoDataset', metainfo=dict(classes=NAMES))
    cfg.test_dataloader = dict(dataset=dataset)
    cfg.visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
    return cfg


@pytest.mark.slow
def test_torch2onnx(tmp_path):
    from mmdeploy.apis import inference_model, torch2onnx, visualize_model

    from mmdet_vanilla.deploy.exporter import example_images

    cfg, deploy_cfg = model_config(), deploy_config('onnxruntime_dynamic')
    checkpoint = tiny_checkpoint(cfg, tmp_path / 'model.pth')
    images = photos(tmp_path)
    torch2onnx(images[0], str(tmp_path), 'end2end.onnx', deploy_cfg, cfg, checkpoint, device='cpu')
    model, _ = load_model(cfg, checkpoint)
    nodes = onnx.load(str(tmp_path / 'end2end.onnx')).graph.node
    assert {node.domain for node in nodes} == {''}
    assert sum(node.op_type == 'GridSample' for node in nodes) == 6
    inputs = example_images(cfg, deploy_cfg, images)
    detect = load_onnxruntime(tmp_path / 'end2end.onnx')
    assert verify(model, detect, inputs, TOLERANCES['fp32']).passed

    # What mmdeploy's tools/deploy.py does next: run the file on the image, and draw what it finds.
    files, picture = [str(tmp_path / 'end2end.onnx')], tmp_path / 'picture.jpg'
    [sample] = inference_model(cfg, deploy_cfg, files, images[0], 'cpu')
    scores = detect(inputs[0].numpy())[0][0, :, 4]
    found = sample.pred_instances.scores
    np.testing.assert_allclose(found, scores[: len(found)], atol=1e-4)
    visualize_model(
        cfg, deploy_cfg, files, images[0], 'cpu', output_file=str(picture), show_result=False
    )
    assert picture.exists()


@pytest.mark.slow
def test_files_of_the_sdk(tmp_path):
    from mmdeploy.backend.sdk.export_info import export2SDK

    cfg = model_config()
    checkpoint = tiny_checkpoint(cfg, tmp_path / 'model.pth')
    export2SDK(deploy_config('onnxruntime_static'), cfg, str(tmp_path), checkpoint, 'cpu')
    content = {
        name: json.loads((tmp_path / f'{name}.json').read_text())
        for name in ('deploy', 'pipeline', 'detail')
    }
    assert content['deploy']['models'][0]['net'] == 'end2end.onnx'
    steps = content['pipeline']['pipeline']['tasks'][0]['transforms']
    normalize = next(step for step in steps if step['type'] == 'Normalize')
    assert normalize['mean'] == [123, 116, 103] and normalize['to_rgb']


@pytest.mark.slow
def test_openvino_by_mmdeploys_own_backend(tmp_path):
    pytest.importorskip('openvino')
    from mmdeploy.apis import build_task_processor, torch2onnx
    from mmdeploy.apis.utils import to_backend

    from mmdet_vanilla.deploy.exporter import example_images

    cfg, deploy_cfg = model_config(), deploy_config('openvino_dynamic')
    checkpoint = tiny_checkpoint(cfg, tmp_path / 'model.pth')
    images = photos(tmp_path)
    torch2onnx(images[0], str(tmp_path), 'end2end.onnx', deploy_cfg, cfg, checkpoint, device='cpu')
    files = to_backend(
        'openvino', [str(tmp_path / 'end2end.onnx')], str(tmp_path), deploy_cfg, device='cpu'
    )
    assert files == [str(tmp_path / 'end2end.xml')]
    processor = build_task_processor(cfg, deploy_cfg, 'cpu')
    wrapper = processor.build_backend_model(files).wrapper
    model, _ = load_model(cfg, checkpoint)

    def detect(array):
        outputs = wrapper(dict(input=torch.from_numpy(array)))
        return outputs['dets'].numpy(), outputs['labels'].numpy()

    inputs = example_images(cfg, deploy_cfg, images)
    assert verify(model, detect, inputs, TOLERANCES['fp32']).passed
