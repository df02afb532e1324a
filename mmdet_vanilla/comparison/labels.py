"""Labels of points in a plot that cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox

_GAP = 2.0
_ANGLES = np.pi * np.array([0.5, -0.5, 0.25, 0.75, -0.25, -0.75, 0.0, 1.0])
_FARTHEST = 160.0


def label_points(
    axes: Axes,
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    radii: Sequence[float],
    fontsize: float = 7.5,
) -> None:
    """Writes names at points, each at the nearest free place within the axes, with a line.

    Greedy, the most crowded points first; where nothing is free a label stays above its point.

    Args:
        axes: With their final scales and titles.
        names: One per point.
        places: (x, y) in data coordinates.
        radii: Of the points, in typographic points.
        fontsize: Of the names.
    """
    labels = [
        axes.annotate(
            name,
            place,
            (0, radius + _GAP),
            textcoords='offset points',
            ha='center',
            va='center',
            fontsize=fontsize,
            arrowprops=dict(arrowstyle='-', color='#999999', linewidth=0.6, shrinkA=0, shrinkB=0),
        )
        for name, place, radius in zip(names, places, radii)
    ]
    for label in labels:
        label.set_in_layout(False)
    # The layout moves the axes, and the labels with them.
    axes.figure.draw_without_rendering()
    pixels = axes.figure.dpi / 72
    centres = axes.transData.transform(places)
    discs = [_around(c, 2 * r * pixels, 2 * r * pixels) for c, r in zip(centres, radii)]
    # Without the line, which belongs to an annotation's extent.
    boxes = [Text.get_window_extent(label) for label in labels]
    # Letters are not equally wide at every resolution.
    sizes = [(1.1 * box.width, box.height + _GAP) for box in boxes]
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    taken: list[Bbox] = []
    for i in np.argsort(np.sort(distances)[:, :4].sum(1), kind='stable'):
        others = [disc for k, disc in enumerate(discs) if k != i]
        for x, y in _candidates(sizes[i], radii[i] * pixels, pixels):
            box = _around(centres[i] + (x, y), *sizes[i])
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            inside = inside and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            if inside and not any(box.overlaps(other) for other in (*taken, *others)):
                break
        else:
            x, y = 0.0, radii[i] * pixels + sizes[i][1]
            box = _around(centres[i] + (x, y), *sizes[i])
        taken.append(box)
        labels[i].set_position((x / pixels, y / pixels))


def _candidates(
    size: tuple[float, float], radius: float, pixels: float
) -> Iterator[tuple[float, float]]:
    """Centres of a label relative to its point, the nearest first, in pixels."""
    for distance in np.arange(_GAP, _FARTHEST, 4.0) * pixels:
        for angle in _ANGLES:
            x, y = np.cos(angle), np.sin(angle)
            yield x * (radius + distance + size[0] / 2), y * (radius + distance + size[1] / 2)


def _around(centre: Sequence[float], width: float, height: float) -> Bbox:
    x, y = centre
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
