import pytest
from helpers import CONFIGS

from mmdet_vanilla.comparison import ComparisonError, parse_item, parse_items

R18 = str(CONFIGS / 'rtdetr_r18vd_coco.py')
RETINA = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / 'w.pth'
    path.touch()
    return str(path)


@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('config', [R18, RETINA])
@pytest.mark.parametrize('has_weights', [False, True])
def test_configs_zoo_names_checkpoints_and_forms(config, has_weights, deploy, weights):
    spec = config + f'::{weights}' * has_weights + '@deploy' * deploy
    item = parse_item(spec)
    assert item.kind == 'pytorch' and item.path.endswith(config.rsplit('/', 1)[-1])
    assert item.checkpoint == (weights if has_weights else None)
    assert item.deploy == deploy and item.has_weights == has_weights
    assert item.name == config.rsplit('/', 1)[-1].removesuffix('.py') + '@deploy' * deploy


def test_our_own_configs_are_a_zoo_too():
    assert parse_item('mmdet_vanilla::rtdetr_r18vd_coco.py').name == 'rtdetr_r18vd_coco'


def test_exported_files(tmp_path):
    folder = tmp_path / 'r18'
    folder.mkdir()
    for name in ('end2end.onnx', 'end2end.xml', 'end2end.bin'):
        (folder / name).touch()
    onnx, xml = parse_items([f'{folder}/end2end.onnx', f'{folder}/end2end.xml'])
    assert (onnx.kind, xml.kind) == ('onnxruntime', 'openvino')
    assert onnx.name == 'r18/end2end.onnx' and onnx.has_weights


def test_equal_names_are_told_apart():
    items = parse_items([R18, R18, 'mmdet_vanilla::rtdetr_r18vd_coco.py'])
    assert [item.name for item in items] == [
        'rtdetr_r18vd_coco',
        'rtdetr_r18vd_coco #2',
        'rtdetr_r18vd_coco #3',
    ]
    assert len({item.key for item in items}) == 3


@pytest.mark.parametrize(
    'spec, message',
    [
        (R18.replace('r18vd', 'r18v'), r'Did you mean .*rtdetr_r18vd_coco\.py'),
        ('mmdet::retinanet/retinanet_r50_fpn_coco.py', r'Did you mean mmdet::retinanet/'),
        ('retinanet_r50_fpn_1x_coco.py', r'Did you mean mmdet::retinanet/'),
        ('mmdet::nothing/like/it.py', 'mmdet has no config'),
        ('no_such_package::x.py', 'no installed package with configs'),
        (f'{R18}::missing.pth', 'no checkpoint at missing.pth'),
        (f'{R18}::a::b', 'is no item'),
        ('missing.onnx', 'no exported file'),
        ('x.onnx@deploy', 'fused already'),
    ],
)
def test_what_is_not_there_is_said(spec, message):
    with pytest.raises(ComparisonError, match=message):
        parse_item(spec)


def test_nothing_to_compare():
    with pytest.raises(ComparisonError, match='nothing to compare'):
        parse_items([])
