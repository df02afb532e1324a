"""Whatever is in a file: the readers answer with data or with an error of ours."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_data import coco, voc, write_images, yolo

from mmdet_vanilla.datasets.user_data import AnnotationError, load_user_data

FAST, SLOW = 40, 2000
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(['a.jpg', '../a.jpg', 'cat', 7, -3, 100, 0, 1e308, 10**400]),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(['id', 'image_id', 'category_id', 'bbox', 'segmentation', 'name']),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@st.composite
def coco_files(draw):
    """A valid file of which some values, keys or bytes were changed."""
    content = coco()
    for _ in range(draw(st.integers(1, 3))):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            below = place[key]
            if isinstance(below, (dict, list)) and below and draw(st.integers(0, 3)):
                place = below
            elif isinstance(place, dict) and draw(st.booleans()):
                del place[key]
                break
            else:
                place[key] = draw(JSON)
                break
    return damaged(draw, json.dumps(content))


def damaged(draw, text):
    data = bytearray(text.encode('utf-8', 'surrogatepass'))
    if data and not draw(st.integers(0, 3)):
        start = draw(st.integers(0, len(data) - 1))
        data[start : start + draw(st.integers(0, 20))] = draw(st.binary(max_size=6))
    return bytes(data)


@st.composite
def voc_files(draw):
    text = voc('a.jpg')
    for _ in range(draw(st.integers(0, 3))):
        old = draw(
            st.sampled_from(
                ['a.jpg', '<xmin>', 'cat', '11', '100', 'bndbox', 'object', '</name>', 'size', '>']
            )
        )
        text = text.replace(old, draw(st.text(st.characters(), max_size=6)), 1)
    return damaged(draw, text)


@st.composite
def yolo_files(draw):
    lines = yolo('a.jpg').splitlines()
    number = st.floats() | st.integers() | st.text(st.characters(), max_size=4)
    lines.append(' '.join(map(str, draw(st.lists(number, max_size=9)))))
    return damaged(draw, '\n'.join(lines))


@pytest.fixture(scope='module')
def images():
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / 'images')
        yield Path(folder) / 'images'


def read(images, files, **arguments):
    """Loads the data; checks what comes out, if anything does."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / 'images').symlink_to(images)
        for name, content in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(content)
        try:
            data = load_user_data(str(root), **arguments)
        except AnnotationError as error:
            assert str(error).encode()
            return
        '\n'.join(data.summary()).encode()
        for split in data.splits.values():
            content = json.loads(Path(split.ann_file).read_text('utf-8'))
            sizes = {i['id']: (i['width'], i['height']) for i in content['images']}
            for item in content['annotations']:
                x, y, w, h = item['bbox']
                width, height = sizes[item['image_id']]
                assert np.isfinite([x, y, w, h]).all() and w >= 1 and h >= 1
                assert x >= 0 and y >= 0 and x + w <= width + 1e-6 and y + h <= height + 1e-6


def check_coco(images, content):
    read(images, {'train.json': content}, annotations=dict(train='train.json'))


def check_voc(images, content):
    files = {f'xml/{n}.xml': voc(f'{n}.jpg').encode() for n in 'bcde'}
    read(images, {**files, 'xml/a.xml': content})


def check_yolo(images, content):
    files = {f'labels/{n}.txt': yolo(f'{n}.jpg').encode() for n in 'bcde'}
    names = 'cat\nHund\n猫'.encode()
    read(images, {**files, 'labels/a.txt': content, 'classes.txt': names})


CHECKS = [(check_coco, coco_files), (check_voc, voc_files), (check_yolo, yolo_files)]


def fuzz(images, check, files, examples):
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=files())
    def run(content):
        check(images, content)

    run()


@pytest.mark.parametrize(('check', 'files'), CHECKS, ids=('coco', 'voc', 'yolo'))
def test_fuzz(images, check, files):
    fuzz(images, check, files, FAST)


@pytest.mark.slow
@pytest.mark.parametrize(('check', 'files'), CHECKS, ids=('coco', 'voc', 'yolo'))
def test_fuzz_long(images, check, files):
    fuzz(images, check, files, SLOW)
