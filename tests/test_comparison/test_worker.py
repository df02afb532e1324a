"""One detector in a process of its own."""

import pytest
from comparison_helpers import TINY_RTDETR, make_data, write_checkpoint, write_config

from mmdet_vanilla.comparison import parse_item
from mmdet_vanilla.comparison.worker import run_worker


@pytest.mark.slow
def test_what_was_done_before_a_failure_is_kept(tmp_path):
    data = make_data(tmp_path / 'data', images=2, splits=('test',))
    config, weights = write_config(tmp_path, 'x', TINY_RTDETR), tmp_path / 'x.pth'
    item = parse_item(f'{config}::{write_checkpoint(weights, TINY_RTDETR)}')
    request = dict(device='cpu', threads=1, img_scale=None, seed=0)
    request.update(image=str(data / 'test' / '1.png'), ann_file=str(data / 'test.json'))
    request.update(split='test', images=str(data / 'test'))
    request.update(out_file=str(tmp_path / 'no' / 'folder' / 'detections.json'))
    images = []
    answer = run_worker(('profile', 'detect'), item, request, tmp_path, images.append)
    assert answer.results.keys() == {'profile'} and answer.results['profile']['macs'] > 0
    assert 'No such file' in answer.error and images == [0, 1, 2]
    assert 'Traceback' in (tmp_path / f'{item.key}.log').read_text()
