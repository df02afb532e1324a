"""One picture with the boxes of one image."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import mmcv
import numpy as np
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer

_FONT_SIZE = 9
# Below this distance from the top, in pixels, a name is written inside its box.
_LINE_HEIGHT = 16
# The golden ratio's multiples spread any number of hues evenly.
_HUE_STEP = 0.618034


def draw_instances(
    image: np.ndarray,
    instances: InstanceData,
    dataset_meta: Mapping,
    size: int = 320,
    score_thr: float = 0.3,
) -> np.ndarray:
    """Draws boxes with class names, and scores where there are any.

    (``DetLocalVisualizer`` makes the names of small boxes too small to read.)

    Args:
        image: RGB image (H, W, 3), uint8.
        instances: ``bboxes`` (N, 4) as x1, y1, x2, y2 in pixels of the image, ``labels`` (N,) and
            optionally ``scores`` (N,) in 0..1. They are not changed.
        dataset_meta: ``classes``, and ``palette`` if the classes have colours of their own.
        size: Longer side of the picture in pixels. The image is scaled to it before boxes are
            drawn, so that names stay legible on small images.
        score_thr: Least score of a drawn box, 0..1.

    Returns:
        RGB picture, uint8.
    """
    zoom = size / max(image.shape[:2])
    image = mmcv.imrescale(image, zoom, interpolation='area' if zoom < 1 else 'bilinear')
    if 'scores' in instances:
        instances = instances[instances.scores > score_thr]
        # The best on top.
        instances = instances[instances.scores.argsort()]
    if not len(instances):
        return image
    # matplotlib would enlarge the picture for what lies outside.
    limits = np.tile(image.shape[1::-1], 2) - 1
    boxes = (get_box_tensor(instances.bboxes).detach().cpu().numpy() * zoom).clip(0, limits)
    labels = instances.labels.tolist()
    texts = [_name(label, dataset_meta) for label in labels]
    if 'scores' in instances:
        texts = [f'{text} {score:.2f}' for text, score in zip(texts, instances.scores.tolist())]
    colors = [_color(label, dataset_meta) for label in labels]

    visualizer = Visualizer(image=image)
    visualizer.draw_bboxes(boxes, edge_colors=colors, line_widths=2, alpha=1)
    for box, text, color in zip(boxes, texts, colors):
        bright = np.dot(color, (0.3, 0.59, 0.11)) > 140
        far_right = box[0] > 0.6 * image.shape[1]
        visualizer.draw_texts(
            text,
            np.array((box[2] - 1 if far_right else box[0] + 1, box[1] + 1)),
            font_sizes=_FONT_SIZE,
            colors='k' if bright else 'w',
            horizontal_alignments='right' if far_right else 'left',
            vertical_alignments='top' if box[1] < _LINE_HEIGHT else 'bottom',
            bboxes=dict(
                facecolor=tuple(channel / 255 for channel in color), edgecolor='none', pad=1
            ),
        )
    return visualizer.get_image()


def _name(label: int, dataset_meta: Mapping) -> str:
    classes = dataset_meta.get('classes') or ()
    return classes[label] if label < len(classes) else f'class {label}'


def _color(label: int, dataset_meta: Mapping) -> tuple[int, int, int]:
    palette = dataset_meta.get('palette') or ()
    # Some data sets have the word 'random' there.
    if not isinstance(palette, str) and label < len(palette):
        return tuple(palette[label])
    return _hue(label)


def palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Different colours, RGB 0..255, for any number of classes."""
    return [_hue(label) for label in range(num_classes)]


def _hue(label: int) -> tuple[int, int, int]:
    rgb = colorsys.hsv_to_rgb(label * _HUE_STEP % 1, 0.85, 0.85)
    return tuple(round(channel * 255) for channel in rgb)
