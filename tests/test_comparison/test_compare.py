"""A whole comparison, its files, and its page in a browser."""

import csv
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from comparison_helpers import (
    RETINANET,
    TINY_RTDETR,
    export,
    make_data,
    write_checkpoint,
    write_config,
)
from mmengine.registry import init_default_scope
from rich.console import Console

from mmdet_vanilla.comparison import ComparisonError, Settings, compare
from mmdet_vanilla.comparison.accuracy import Evaluation
from mmdet_vanilla.comparison.columns import COLUMNS
from mmdet_vanilla.comparison.dataset import read_split
from mmdet_vanilla.comparison.plots import pareto_front
from mmdet_vanilla.ops import using_stand_ins
from mmdet_vanilla.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
QUICK = dict(rounds=2, warmup=0, batches=(1, 2), batch_rounds=1, resamples=50, threads=1)
SCRIPT = "<script>throw 'run'</script>"


def console():
    return Console(file=open('/dev/null', 'w'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A comparison of a detector with NMS, one without, and one that cannot run."""
    init_default_scope('mmdet')
    root = tmp_path_factory.mktemp('comparison')
    data = make_data(root / 'data', classes=('a', 'b', 'c', SCRIPT))
    (data / 'test' / '3.png').write_bytes(b'broken')
    specs = []
    for name, model in (('rtdetr', TINY_RTDETR), ('retinanet', RETINANET)):
        config = write_config(root, name, model)
        weights = write_checkpoint(root / f'{name}.pth', model, ('a', 'b', 'c', SCRIPT))
        specs.append(f'{config}::{weights}')
    broken = dict(TINY_RTDETR, neck=dict(type='NeckOfAnotherPackage'))
    specs.append(str(write_config(root, 'broken', broken)))
    settings = Settings(out=root / 'out', data=str(data), **QUICK)
    report = compare(specs, settings, 'the command', console=console())
    return root, specs, settings, report


def test_rows(folder):
    root, specs, settings, report = folder
    rtdetr, retinanet, broken = report['rows']
    assert broken['status'] == 'failed' and broken['reason'] and broken['latency_ms'] is None
    for row in (rtdetr, retinanet):
        assert row['status'] == 'ok'
        assert row['parameters'] == row['parameters_training'] > row['parameters_fused'] > 0
        assert row['macs'] >= row['macs_fused'] > 0 and row['rounds'] == 2
        assert row['peak_memory_bytes'] > row['import_memory_bytes'] > 0
        assert row['startup_seconds'] > 0 and row['throughput_2'] > 0
        assert 0 <= row['AP_low'] <= row['AP_high'] <= 1
        total = row['preprocess_ms'] + row['network_ms'] + row['postprocess_ms']
        assert total == pytest.approx(row['latency_ms'], rel=0.5)
    assert report['unreadable_images'] == ['3.png']
    assert any('3.png' in note for note in report['notes'])
    served = 'mmdet_vanilla.ops' if using_stand_ins() else 'compiled with mmcv'
    assert any(served in note for note in report['notes'])
    [difference] = report['differences']
    assert {difference['a'], difference['b']} == {'rtdetr', 'retinanet'}


def test_metrics_are_pycocotools_of_the_stored_detections(folder):
    root, specs, settings, report = folder
    split = read_split('test', settings.out / 'data' / 'test.json', root / 'data' / 'test')
    for row in report['rows'][:2]:
        [file] = (settings.out / 'items').glob(f'{row["name"]}-*.detections.json')
        stats = Evaluation(split, json.loads(file.read_text())).stats
        assert all(row[key] == stats[key] for key in ('AP', 'AP50', 'AP75', 'AP_small', 'AP_large'))


def test_files(folder):
    root, specs, settings, report = folder
    out = settings.out
    assert json.loads((out / 'compare.json').read_text()) == json.loads(json.dumps(report))
    with open(out / 'compare.csv') as file:
        table = list(csv.DictReader(file))
    for row, line in zip(report['rows'], table):
        for key, text in line.items():
            value = row[key]
            assert text == ('' if value is None else str(value))
    assert set(c.key for c in COLUMNS) <= set(table[0])
    text = (out / 'compare.md').read_text()
    assert 'rtdetr' in text and 'the command' in text and 'Failed' in text
    for name in ('ap_latency', 'latency', 'costs', 'precision_recall', 'per_class'):
        assert (out / 'plots' / f'{name}.png').stat().st_size > 5000
        assert '<svg' in (out / 'plots' / f'{name}.svg').read_text()


def test_documentation_names_every_column():
    text = (ROOT / 'docs' / 'compare.md').read_text()
    assert [c.key for c in COLUMNS if f'`{c.key}`' not in text] == []


def test_nothing_is_measured_again(folder, tmp_path):
    root, specs, settings, report = folder
    # Other tests read the first one.
    out = shutil.copytree(settings.out, tmp_path / 'out')
    settings = dataclasses.replace(settings, out=out)
    with pytest.raises(ComparisonError, match='--resume continues it'):
        compare(specs, settings, console=console())
    files = [p for p in (settings.out / 'items').iterdir() if 'broken' not in p.name]
    times = {p: p.stat().st_mtime_ns for p in files}
    again = compare(specs[:2], settings, resume=True, console=console())
    assert all(p.stat().st_mtime_ns == t for p, t in times.items())
    for old, new in zip(report['rows'], again['rows']):
        assert {k: v for k, v in old.items()} == new
    other = Settings(out=settings.out, data=settings.data, img_scale=64, **QUICK)
    with pytest.raises(ComparisonError, match=r'img_scale None \(now 64\)'):
        compare(specs[:2], other, resume=True, console=console())


@pytest.fixture(scope='module')
def browser():
    """Chromium, driven by selenium."""
    chromium, driver = (shutil.which(name) for name in ('chromium', 'chromedriver'))
    if not (chromium and driver):
        pytest.skip('no chromium and chromedriver (Debian: chromium, chromium-driver)')
    if importlib.util.find_spec('selenium') is None:
        pytest.skip('no selenium (requirements/tests.txt)')
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for name in ('headless', 'no-sandbox', 'disable-gpu', 'disable-quic', 'no-first-run'):
            options.add_argument(f'--{name}')
        for name in ('background-networking', 'component-update', 'sync', 'dev-shm-usage'):
            options.add_argument(f'--disable-{name}')
        options.add_argument(f'--user-data-dir={profile}')
        options.set_capability('goog:loggingPrefs', dict(browser='ALL', performance='ALL'))
        browser = webdriver.Chrome(options=options, service=Service(driver))
        yield browser
        browser.quit()


def test_page_in_a_browser(folder, browser):
    root, specs, settings, report = folder
    page = settings.out / 'index.html'
    assert page.stat().st_size < 15e6
    browser.get(page.as_uri())
    assert browser.get_log('browser') == []  # no error of a script, nothing blocked

    requested = []
    for entry in browser.get_log('performance'):
        message = json.loads(entry['message'])['message']
        sent = message['method'] == 'Network.requestWillBeSent'
        # The browser's own first page has requests too.
        if sent and message['params']['documentURL'] == page.as_uri():
            requested.append(message['params']['request']['url'])
    assert [u for u in requested if not u.startswith(('file:', 'data:'))] == []
    assert len([u for u in requested if u.startswith('file:')]) == 1  # the page itself

    def column(key):
        script = """
            const index = [...document.querySelectorAll('#results th')]
                .findIndex((cell) => cell.dataset.key === arguments[0]);
            return [...document.querySelectorAll('#results tbody tr')]
                .map((row) => row.cells[index].dataset.value);"""
        return browser.execute_script(script, key)

    names = column('name')
    for key in ('latency_ms', 'AP', 'parameters', 'peak_memory_bytes'):
        by_name = dict(zip(column('name'), column(key)))
        for row in report['rows']:
            value = row[key]
            assert by_name[row['name']] == ('' if value is None else str(value))
    heading = browser.find_element('css selector', '#results th[data-key=latency_ms]')
    for order in (1, -1):
        heading.click()
        known = [float(value) for value in column('latency_ms') if value]
        assert known == sorted(known, key=lambda value: order * value)
        assert column('latency_ms')[-1] == ''  # what failed stays at the end
    assert sorted(column('name')) == sorted(names)
    assert len(browser.find_elements('css selector', '.plots svg')) == 5
    browser.execute_async_script(
        'const end = arguments[0], images = [...document.images];'
        'images.forEach((image) => { image.loading = "eager"; });'
        'Promise.all(images.map((image) => image.decode())).then(() => end())'
    )
    widths = browser.execute_script('return [...document.images].map((i) => i.naturalWidth)')
    assert len(widths) > 6 and min(widths) > 100
    # A name is text, whatever it looks like, and every name in the page is unique.
    assert SCRIPT in browser.find_element('css selector', '#plot-per_class svg').text
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert browser.get_log('browser') == []


def test_a_page_refers_to_nothing_outside(folder):
    text = (folder[2].out / 'index.html').read_text()
    links = re.findall(r'(?:src|href)="([^"]{0,40})', text)
    assert links and all(link.startswith(('data:', '#')) for link in links)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(rounds=0), '--rounds 0: expected 1 or more'),
        (dict(seed=-1), '--seed -1: expected 0 or more'),
        (dict(threads=-3), '--threads -3: expected 0 or more'),
        (dict(device='cuda:99'), '--device cuda:99 cannot be used'),
        (dict(device='gpu'), '--device gpu cannot be used'),
        (dict(image=__file__), 'test_compare.py'),
        (dict(batches=(0,)), '--batches'),
        (dict(img_scale=8), '--img-scale 8'),
        (dict(image='missing.jpg'), 'no image at missing.jpg'),
    ],
)
def test_settings(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        Settings(out=tmp_path, **changes)


@pytest.fixture
def bad(tmp_path):
    """Things that do not fit together: by name, items and settings."""
    config = write_config(tmp_path, 'x', TINY_RTDETR)
    data = make_data(tmp_path / 'data', classes=('x', 'y', 'z'))
    empty = make_data(tmp_path / 'empty', splits=('test',))
    content = json.loads((empty / 'test.json').read_text())
    (empty / 'test.json').write_text(json.dumps(dict(content, images=[], annotations=[])))
    right = write_checkpoint(tmp_path / 'right.pth', TINY_RTDETR)
    wrong = write_checkpoint(tmp_path / 'wrong.pth', RETINANET)
    (tmp_path / 'torn.pth').write_bytes(right.read_bytes()[:2000])
    (tmp_path / 'file').touch()
    needs = tmp_path / 'needs.py'
    needs.write_text(config.read_text().replace("'mmdet_vanilla'", "'package_not_there'"))
    orphan = tmp_path / 'orphan.py'
    orphan.write_text("_base_ = './not_there.py'\n")
    return dict(
        architecture=(f'{config}::{wrong}', dict()),
        torn=(f'{config}::{tmp_path / "torn.pth"}', dict()),
        classes=(f'{config}::{right}', dict(data=str(data))),
        folder=(str(config), dict(out=tmp_path / 'file' / 'out')),
        no_data=(str(config), dict(data=str(tmp_path / 'no'))),
        empty=(str(config), dict(data=str(empty))),
        zoo=('mmdet::retinanet/retinanet_r50_fpn_coco.py', dict()),
        package=(str(needs), dict()),
        base=(str(orphan), dict()),
    )


@pytest.mark.parametrize(
    'name, message',
    [
        ('architecture', 'does not belong to this RTDETR'),
        ('torn', r'torn\.pth'),
        ('classes', 'has 4 classes .* has 3'),
        ('folder', 'cannot write to'),
        ('no_data', 'no folder of data at'),
        ('empty', r'test\.json.* image'),
        ('zoo', 'Did you mean mmdet::retinanet/'),
        ('base', r'orphan\.py cannot be read: .*not_there'),
        ('package', 'Failed to import .*package_not_there'),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(tmp_path, bad, name, message):
    spec, settings = bad[name]
    good = str(write_config(tmp_path, 'good', TINY_RTDETR))
    with pytest.raises(UserError, match=message):
        compare([good, spec], Settings(**{'out': tmp_path / 'out', **settings}), console=console())
    # Neither results nor settings, which the corrected command would not be allowed to change.
    left = [*tmp_path.rglob('compare.*'), *tmp_path.rglob('*.log'), *tmp_path.rglob('settings.*')]
    assert not left


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs another user in a child process')
def test_a_folder_without_permission_to_write():
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which is closed to others
        folder = Path(folder)
        config = write_config(folder, 'x', TINY_RTDETR)
        (folder / 'closed').mkdir()
        for path, mode in ((folder, 0o755), (folder / 'closed', 0o555), (config, 0o644)):
            path.chmod(mode)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            text = 'nothing was raised'
            try:
                if os.geteuid() == 0:  # who may write everywhere
                    os.setgroups([])
                    os.setuid(65534)
                compare([str(config)], Settings(out=folder / 'closed' / 'out'), console=console())
            except BaseException as error:
                text = f'{type(error).__name__}: {error}'
            os.write(writer, text.encode())
            os._exit(0)
        os.close(writer)
        with open(reader) as file:
            said = file.read()
        os.waitpid(child, 0)
        assert said == f'ComparisonError: cannot write to {folder}/closed/out: Permission denied.'


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_detectors_of_every_kind_in_one_table(tmp_path):
    for name in ('mmdeploy', 'onnxruntime'):
        pytest.importorskip(name)
    data = make_data(tmp_path / 'data')
    config = write_config(tmp_path, 'rtdetr', TINY_RTDETR)
    weights = write_checkpoint(tmp_path / 'w.pth', TINY_RTDETR)
    own = f'{config}::{weights}'
    onnx = export(config, weights, tmp_path / 'onnx', str(data / 'test' / '1.png'))
    specs = [
        'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
        own,
        own,
        str(onnx),
    ]
    quick = dict(QUICK, batches=(1,), img_scale=64)
    report = compare(
        specs, Settings(out=tmp_path / 'out', data=str(data), **quick), console=console()
    )
    rows = report['rows']
    assert [row['status'] for row in rows] == ['ok'] * 5
    assert {row['input'] for row in rows} == {'64x64'}
    assert all(row['latency_ms'] > 0 and row['startup_seconds'] > 0 for row in rows)
    assert [row['form'] for row in rows] == ['training'] * 4 + ['exported']
    two_stage, one_stage, *copies, exported = rows
    assert two_stage['AP'] is one_stage['AP'] is None and 'random' in two_stage['reason']
    assert two_stage['parameters'] / 1e6 == pytest.approx(41.8, abs=0.1)
    assert one_stage['parameters'] / 1e6 == pytest.approx(5.06, abs=0.01)
    # A copy has the same detections, and an exported file nearly.
    keys = ('parameters', 'macs', 'AP', 'AP50', 'AP_low', 'AP_high', 'AR')
    assert [copies[0][key] for key in keys] == [copies[1][key] for key in keys]
    assert exported['AP'] == pytest.approx(copies[0]['AP'], abs=1e-3)
    [pair] = [d for d in report['differences'] if {d['a'], d['b']} == {r['name'] for r in copies}]
    assert pair['difference'] == 0 and pair['low'] <= 0 <= pair['high']
    assert not pair['distinguishable']


def test_tool_says_errors_in_one_line(tmp_path):
    tool = [sys.executable, str(ROOT / 'tools' / 'compare.py')]
    result = subprocess.run(
        [*tool, 'mmdet::retinanet/retinanet_r50_fpn_coco.py'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith('error: mmdet has no config')


def test_pareto_front():
    points = [(3, 0.5), (1, 0.2), (2, 0.2), (2, 0.4), (4, 0.5), (5, 0.45)]
    assert pareto_front(points) == [1, 3, 0]
    rng = np.random.default_rng(0)
    points = [tuple(p) for p in rng.random((50, 2))]
    front = pareto_front(points)
    for i, (cost, gain) in enumerate(points):
        beaten = any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
        assert (i in front) != beaten
