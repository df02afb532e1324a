import pytest
import torch
from deploy_helpers import deploy_config, photos, tiny_checkpoint, tiny_config
from mmdet.registry import MODELS

from mmdet_vanilla.deploy import DeployError, exporter
from mmdet_vanilla.deploy.runtimes import load_onnxruntime, load_openvino, load_torchscript
from mmdet_vanilla.deploy.verify import TOLERANCES, tolerance_of, verify

BACKBONES = dict(
    vanillanet=dict(),
    ada_pool=dict(arch=dict(dims=(64, 64, 128, 256), strides=(2, 2, 2), ada_pool=True)),
    resnet=dict(type='ResNetVd', depth=18, base_channels=8, out_indices=(1, 2, 3)),
)


@pytest.fixture
def model(tmp_path):
    cfg = tiny_config()
    return exporter.load_model(cfg, tiny_checkpoint(cfg, tmp_path / 'model.pth'))[0]


def export(model, name, path, size=(96, 128), batch=1):
    images = torch.randn(batch, 3, *size)
    exporter.export_onnx(exporter.fuse(model), images, deploy_config(name, size), path)
    return path


@pytest.mark.parametrize('simplified', [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    'head',
    [
        {},
        pytest.param(dict(num_points=[3, 6, 3]), marks=pytest.mark.slow),
        pytest.param(dict(sampling_method='discrete'), marks=pytest.mark.slow),
    ],
)
def test_one_dynamic_file_takes_any_batch_and_size(tmp_path, head, simplified):
    pytest.importorskip('openvino')
    cfg = tiny_config(bbox_head=head)
    model, _ = exporter.load_model(cfg, tiny_checkpoint(cfg, tmp_path / 'model.pth'))
    path = export(model, 'onnxruntime_dynamic', tmp_path / 'end2end.onnx')
    if simplified:
        assert exporter.simplify_onnx(path)
    sizes = [(1, 96, 128), (2, 64, 160), (3, 160, 64)]
    batches = [torch.randn(n, 3, h, w) for n, h, w in sizes]
    for load in (load_onnxruntime, load_openvino):
        result = verify(model, load(path), batches, tolerance_of(model, 'fp32'))
        assert result.passed and result.num_images == 6 and result.num_detections == 6 * 40


@pytest.mark.slow
@pytest.mark.parametrize('backbone', BACKBONES)
def test_static_graph_is_standard_and_flat(tmp_path, backbone):
    settings = BACKBONES[backbone]
    cfg = tiny_config(backbone=settings)
    if 'depth' in settings:
        cfg.model.backbone = dict(settings)
    checkpoint = tiny_checkpoint(cfg, tmp_path / 'model.pth')
    model, names = exporter.load_model(cfg, checkpoint)
    path = export(model, 'onnxruntime_static', tmp_path / 'end2end.onnx')
    exporter.simplify_onnx(path)
    graph = exporter.finish_onnx(path, cfg, names, deploy_config('onnxruntime_static'))
    assert graph.custom_operators == []
    # Two levels of two layers, and three levels of sampling in each.
    assert graph.operators['GridSample'] == 6
    assert graph.operators['LayerNormalization'] == 9
    assert not {'If', 'Loop', 'Dropout', 'Shape', 'BatchNormalization'} & set(graph.operators)
    images = [torch.randn(1, 3, 96, 128)]
    assert verify(model, load_onnxruntime(path), images, TOLERANCES['fp32']).passed


@pytest.mark.slow
def test_the_fused_backbone_has_two_convolutions_a_block(tmp_path, model):
    import onnx

    path = export(model, 'onnxruntime_static', tmp_path / 'end2end.onnx')
    exporter.simplify_onnx(path)
    nodes = onnx.load(str(path)).graph.node
    convs = [node for node in nodes if node.op_type == 'Conv' and 'backbone' in node.name]
    groups = [next(a.i for a in node.attribute if a.name == 'group') for node in convs]
    # Of the stem and of each block: a 1x1 (the stem: 4x4) and a depthwise one.
    assert len(convs) == 2 * (1 + len(model.backbone.stages))
    assert [group > 1 for group in groups] == [False, True] * (len(convs) // 2)


@pytest.mark.slow
def test_discrete_sampling_needs_no_grid_sample(tmp_path):
    cfg = tiny_config(bbox_head=dict(sampling_method='discrete'))
    model, names = exporter.load_model(cfg, tiny_checkpoint(cfg, tmp_path / 'model.pth'))
    path = export(model, 'onnxruntime_static', tmp_path / 'end2end.onnx')
    graph = exporter.finish_onnx(path, cfg, names, deploy_config('onnxruntime_static'))
    assert 'GridSample' not in graph.operators


@pytest.mark.slow
def test_a_model_is_exported_twice_and_still_runs(tmp_path, model):
    fused, images = exporter.fuse(model), torch.randn(1, 3, 96, 128)
    before = fused(images)
    for name in ('onnxruntime_static', 'onnxruntime_dynamic'):
        exporter.export_onnx(fused, images, deploy_config(name), tmp_path / 'end2end.onnx')
    script = tmp_path / 'end2end.pt'
    exporter.export_torchscript(fused, images, deploy_config('torchscript'), script)
    torch.testing.assert_close(fused(images), before)
    assert verify(model, load_torchscript(script), [images], TOLERANCES['fp32']).passed


@pytest.mark.slow
def test_no_size_is_constant_in_a_dynamic_file(tmp_path, model):
    import onnx

    path = export(model, 'onnxruntime_dynamic', tmp_path / 'end2end.onnx')
    graph = onnx.load(str(path)).graph
    [value] = graph.input
    dims = value.type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ['batch', 3, 'height', 'width']
    assert {node.op_type for node in graph.node}.isdisjoint({'If', 'Loop'})


@pytest.mark.parametrize(
    'backbone, head, name, opset, message',
    [
        (BACKBONES['ada_pool'], {}, 'onnxruntime_dynamic', 17, 'ada_pool .* use a static'),
        ({}, {}, 'onnxruntime_static', 15, 'opset 15 has no GridSample'),
        ({}, dict(sampling_method='discrete'), 'onnxruntime_static', 16, 'no LayerNormalization'),
    ],
)
def test_refuses_what_cannot_be_exported(backbone, head, name, opset, message):
    model = MODELS.build(tiny_config(backbone=backbone, bbox_head=head).model)
    cfg = deploy_config(name)
    cfg.onnx_config.opset_version = opset
    with pytest.raises(DeployError, match=message):
        exporter.check_exportable(model, cfg)


def test_refuses_a_model_in_the_middle_of_deep_training(model):
    model.backbone.set_act_learn(0.5)
    with pytest.raises(DeployError, match='act_learn=0.5'):
        exporter.fuse(model)


def test_leaves_no_half_written_file(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with exporter.working_copy(tmp_path / 'out', 'a.onnx') as path:
            path.write_text('half')
            raise ZeroDivisionError
    assert list((tmp_path / 'out').iterdir()) == []
    with exporter.working_copy(tmp_path / 'out', 'a.onnx') as path:
        path.write_text('whole')
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['a.onnx']
    (tmp_path / 'file').write_text('')
    with pytest.raises(DeployError, match='cannot write to'):
        with exporter.working_copy(tmp_path / 'file', 'a.onnx'):
            pass


def test_images_as_the_network_sees_them(tmp_path):
    cfg = tiny_config()
    [image] = exporter.example_images(
        cfg, deploy_config('onnxruntime_dynamic'), photos(tmp_path, 1)
    )
    assert image.shape == (1, 3, 96, 128) and image.abs().max() < 3
    static = deploy_config('onnxruntime_static', (64, 96))
    [image] = exporter.example_images(cfg, static, photos(tmp_path, 1))
    assert image.shape == (1, 3, 64, 96)
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(DeployError, match=r'cannot read the image .*text\.png'):
        exporter.example_images(cfg, static, [tmp_path / 'text.png'])
