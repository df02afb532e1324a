import json
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
import torch
from deploy_helpers import NAMES, deploy_config, photos, tiny_checkpoint, tiny_config
from helpers import CONFIGS

from mmdet_vanilla.deploy import DeployError, exporter
from mmdet_vanilla.deploy import ship as ship_module
from mmdet_vanilla.deploy.convert import parse_metadata, read_openvino_metadata
from mmdet_vanilla.deploy.ship import ship
from mmdet_vanilla.utils.errors import UserError

ROOT = CONFIGS.parent


def run(tmp_path, name, cfg=None, **settings):
    cfg = cfg or tiny_config()
    checkpoint = tiny_checkpoint(cfg, tmp_path / 'model.pth')
    settings = {'images': photos(tmp_path), 'rounds': 1, **settings}
    return ship(cfg, checkpoint, deploy_config(name), tmp_path / 'out', **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, files',
    [
        ('onnxruntime_static', ['end2end.onnx']),
        ('onnxruntime_fp16', ['end2end.onnx']),
        ('onnxruntime_int8', ['end2end.onnx']),
        ('openvino_static', ['end2end.bin', 'end2end.onnx', 'end2end.xml']),
        ('openvino_fp16', ['end2end.bin', 'end2end.onnx', 'end2end.xml']),
        ('openvino_int8', ['end2end.bin', 'end2end.onnx', 'end2end.xml']),
        ('torchscript', ['end2end.pt']),
        ('tensorrt_fp16_static', ['end2end.onnx']),
        ('tensorrt_dynamic', ['end2end.onnx']),
    ],
)
def test_every_runtime(tmp_path, name, files):
    if name.startswith('openvino'):
        pytest.importorskip('openvino')
    if name == 'openvino_int8':
        pytest.importorskip('nncf')
    report = run(tmp_path, name)
    assert report.passed, report.verification
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [*files, 'verify.json']
    content = json.loads((tmp_path / 'out' / 'verify.json').read_text())
    assert content['passed'] and content['verification']['num_images'] == 2
    assert set(content['milliseconds']) == {'pytorch', content['runtime']}


@pytest.mark.slow
def test_bfloat16_is_the_float32_file_computed_otherwise(tmp_path):
    pytest.importorskip('openvino')
    report = run(tmp_path, 'openvino_bf16')
    [path] = (tmp_path / 'out').glob('*.xml')
    detect = ship_module.LOADERS['openvino'](path)
    batch = np.random.default_rng(0).normal(size=(1, 3, 96, 128)).astype(np.float32)
    lower = ship_module.LOADERS['openvino'](path, precision='bf16')
    scores, rounded = detect(batch)[0][..., 4], lower(batch)[0][..., 4]
    np.testing.assert_allclose(scores, rounded, atol=0.1)
    assert report.precision == 'bf16' and report.verification.score < 0.1


@pytest.mark.slow
def test_the_artefact_says_what_it_is(tmp_path):
    run(tmp_path, 'onnxruntime_dynamic')
    model = onnx.load(str(tmp_path / 'out' / 'end2end.onnx'))
    found = parse_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert found['names'] == list(NAMES)
    assert found['input_size'] == [96, 128] and found['dynamic'] and not found['keep_ratio']
    assert found['mean'] == [123, 116, 103] and found['channel_order'] == 'RGB'
    assert model.producer_name == 'mmdet_vanilla' and found['model'] == 'RTDETR'


@pytest.mark.slow
def test_openvino_says_the_same(tmp_path):
    pytest.importorskip('openvino')
    run(tmp_path, 'openvino_static')
    found = parse_metadata(read_openvino_metadata(tmp_path / 'out' / 'end2end.xml'))
    assert found['names'] == list(NAMES) and not found['dynamic']


@pytest.mark.slow
def test_what_differs_is_marked(tmp_path, monkeypatch):
    original = exporter.fuse

    def fuse_wrongly(model):
        fused = original(model)
        with torch.no_grad():
            fused.bbox_head.dec_score_head[-1].bias.add_(0.01)
        return fused

    monkeypatch.setattr(ship_module.exporter, 'fuse', fuse_wrongly)
    report = run(tmp_path, 'onnxruntime_static')
    assert not report.passed and report.file.endswith('end2end.unverified.onnx')
    names = sorted(p.name for p in (tmp_path / 'out').iterdir())
    assert names == ['end2end.unverified.onnx', 'verify.json']


def test_an_artefact_replaces_the_one_that_failed_and_the_other_way_round(tmp_path):
    def names():
        return sorted(file.name for file in tmp_path.iterdir())

    for name in ('end2end.xml', 'end2end.bin'):
        (tmp_path / name).write_text('earlier')
    (tmp_path / 'end2end.pt').write_text('of another export')
    with exporter.working_copy(tmp_path, 'end2end.xml') as path:
        path.write_text('wrong')
        path.with_suffix('.bin').write_text('wrong')
        assert exporter.mark_unverified(path).name == 'end2end.unverified.xml'
    assert names() == ['end2end.pt', 'end2end.unverified.bin', 'end2end.unverified.xml']
    with exporter.working_copy(tmp_path, 'end2end.xml') as path:
        path.write_text('right')
        path.with_suffix('.bin').write_text('right')
    assert names() == ['end2end.bin', 'end2end.pt', 'end2end.xml']


@pytest.mark.slow
@pytest.mark.parametrize('name, module', [('onnxruntime_int8', 'onnx'), ('openvino_int8', 'nncf')])
def test_eight_bits_are_calibrated_on_images_of_their_own(tmp_path, name, module):
    pytest.importorskip(module)
    (tmp_path / 'other').mkdir()
    # White images: what was not seen in calibration is cut off, so that the result shows it.
    for i in range(2):
        cv2.imwrite(str(tmp_path / 'other' / f'{i}.png'), np.full((96, 128, 3), 255, np.uint8))
    white = [str(path) for path in (tmp_path / 'other').iterdir()]
    own = run(tmp_path, name).verification.score
    assert run(tmp_path, name, calibration=white).verification.score != own


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(type='pplnn'), "type='pplnn': expected one of onnx"),
        (dict(precision='bf16'), 'onnxruntime has no bf16 on the CPU'),
        (dict(precision='fp8'), "precision='fp8': expected one of fp32, fp16, bf16, int8"),
    ],
)
def test_refuses_what_it_does_not_know(tmp_path, change, message):
    cfg = deploy_config('onnxruntime_static')
    cfg.backend_config.update(change)
    with pytest.raises(DeployError, match=message):
        ship(tiny_config(), 'none.pth', cfg, tmp_path / 'out', ['a.png'])
    assert not (tmp_path / 'out').exists()


def test_refuses_another_models_checkpoint(tmp_path):
    checkpoint = tiny_checkpoint(tiny_config(bbox_head=dict(num_classes=7)), tmp_path / 'other.pth')
    with pytest.raises(UserError, match='does not belong to this RTDETR'):
        ship(
            tiny_config(),
            checkpoint,
            deploy_config('onnxruntime_static'),
            tmp_path / 'out',
            photos(tmp_path),
        )
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('free', ['nothing', 'little'])
def test_refuses_a_full_disk(tmp_path, monkeypatch, free):
    real = exporter.shutil.disk_usage

    def disk_usage(path):
        return real(path)._replace(free=0 if free == 'nothing' else 10_000)

    monkeypatch.setattr(exporter.shutil, 'disk_usage', disk_usage)
    with pytest.raises(DeployError, match=r'cannot write .*end2end\.pt: \d+ MB are needed'):
        run(tmp_path, 'torchscript')
    assert not list((tmp_path / 'out').iterdir())


FULL = """
import resource, runpy, signal, sys

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='has no limits of a process')
def test_a_disk_that_fills_up_leaves_nothing(tmp_path):
    cfg = tiny_config()
    cfg.dump(tmp_path / 'config.py')
    command = [sys.executable, '-c', FULL, ROOT / 'tools' / 'deploy.py', tmp_path / 'config.py']
    command += [tiny_checkpoint(cfg, tmp_path / 'model.pth'), '--image', *photos(tmp_path, 1)]
    command += ['--deploy-config', ROOT / 'configs' / 'deploy' / 'onnxruntime_dynamic.py']
    command += ['--work-dir', tmp_path / 'out']
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert 'error: cannot write' in result.stderr and 'Traceback' not in result.stderr
    assert not list((tmp_path / 'out').iterdir())


@pytest.mark.slow
def test_the_tool_writes_the_files_of_the_sdk_too(tmp_path):
    cfg = tiny_config()
    cfg.model.test_cfg = dict(max_per_img=40)
    cfg.dump(tmp_path / 'config.py')
    command = [sys.executable, ROOT / 'tools' / 'deploy.py', tmp_path / 'config.py']
    command += [tiny_checkpoint(cfg, tmp_path / 'model.pth'), '--image', *photos(tmp_path, 1)]
    command += ['--deploy-config', ROOT / 'configs' / 'deploy' / 'onnxruntime_dynamic.py']
    command += ['--work-dir', tmp_path / 'out', '--dump-info', '--rounds', '1']
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert 'custom operators' in result.stdout and 'verified' in result.stdout
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['deploy.json', 'detail.json', 'end2end.onnx', 'pipeline.json', 'verify.json']


BLOCKED = """
import importlib.abc, runpy, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmdet_vanilla'):
            raise ImportError(f'{name} is not installed on the target')

sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def infer(*arguments):
    command = [sys.executable, '-c', BLOCKED, str(ROOT / 'tools' / 'infer_onnx.py'), *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_runs_without_the_packages_it_was_made_with(tmp_path):
    cfg = tiny_config()
    run(tmp_path, 'onnxruntime_dynamic', cfg)
    artefact = tmp_path / 'out' / 'end2end.onnx'
    (tmp_path / 'images').mkdir()
    [photo] = photos(tmp_path / 'images', 1)
    result = infer(artefact, tmp_path / 'images', '--out-dir', tmp_path / 'a', '--score-thr', 0)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / 'a' / 'photo0.json').read_text(encoding='utf-8'))
    assert len(found) == 40 and {entry['label'] for entry in found} <= set(NAMES)
    drawn = cv2.imread(str(tmp_path / 'a' / 'photo0.jpg'))
    assert drawn.shape == (150, 200, 3)
    assert np.abs(drawn.astype(int) - cv2.imread(photo)).mean() > 1

    # The same objects as the PyTorch model, in pixels of the image.
    model, _ = exporter.load_model(cfg, str(tmp_path / 'model.pth'))
    [image] = exporter.example_images(cfg, deploy_config('onnxruntime_dynamic'), [photo])
    [expected] = ship_module.reference_detections(model, image)
    boxes = expected.bboxes / torch.tensor([128 / 200, 96 / 150] * 2)
    scores = [entry['score'] for entry in found]
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
    best = int(expected.scores.argmax())
    np.testing.assert_allclose(found[best]['box'], boxes[best], atol=0.1)


@pytest.mark.slow
def test_infers_on_a_video(tmp_path):
    run(tmp_path, 'onnxruntime_dynamic')
    video = cv2.VideoWriter(
        str(tmp_path / 'a.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (200, 150)
    )
    for path in photos(tmp_path, 3):
        video.write(cv2.imread(path))
    video.release()
    artefact = tmp_path / 'out' / 'end2end.onnx'
    result = infer(artefact, tmp_path / 'a.avi', '--out-dir', tmp_path / 'b')
    assert result.returncode == 0 and '3 frames' in result.stdout, result.stderr
    assert cv2.VideoCapture(str(tmp_path / 'b' / 'a.mp4')).read()[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    'model, source, message',
    [
        ('none.onnx', 'photo0.png', 'cannot load'),
        ('out/end2end.onnx', 'none.png', 'no image, folder or video at'),
        ('out/end2end.onnx', 'out', 'no image in'),
        ('out/end2end.onnx', 'model.pth', 'cannot read the image'),
    ],
)
def test_inference_names_what_is_wrong(tmp_path, model, source, message):
    run(tmp_path, 'onnxruntime_dynamic')
    result = infer(tmp_path / model, tmp_path / source)
    assert result.returncode == 2 and message in result.stderr
    assert 'Traceback' not in result.stderr
