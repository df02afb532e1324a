"""Pictures of any sizes in rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_MARGIN = 4
_CAPTION_HEIGHT = 18
_GREY = (40, 40, 40)


def grid(
    pictures: Sequence[np.ndarray], columns: int, captions: Sequence[str] | None = None
) -> np.ndarray:
    """Lays pictures out in cells on white, as wide as the widest, rows as high as their highest.

    Args:
        pictures: RGB pictures (H, W, 3), uint8, of any sizes.
        columns: Pictures in a row; fewer if there are fewer pictures.
        captions: A line above each picture. What does not fit into a cell is cut off.

    Returns:
        RGB picture, uint8.

    Raises:
        ValueError: If there is no picture.
    """
    if not pictures:
        raise ValueError('expected at least one picture, got none.')
    columns = min(columns, len(pictures))
    captions = captions or [''] * len(pictures)
    top = _MARGIN + (_CAPTION_HEIGHT if any(captions) else 0)
    width = max(picture.shape[1] for picture in pictures) + 2 * _MARGIN
    rows = []
    for start in range(0, len(pictures), columns):
        row = pictures[start : start + columns]
        height = top + max(picture.shape[0] for picture in row) + _MARGIN
        cells = np.full((columns, height, width, 3), 255, np.uint8)
        for cell, picture, caption in zip(cells, row, captions[start:]):
            h, w = picture.shape[:2]
            cell[top : top + h, _MARGIN : _MARGIN + w] = picture
            cv2.putText(
                cell,
                caption,
                (_MARGIN, top - 5),
                cv2.FONT_HERSHEY_SIMPLEX,
                0.4,
                _GREY,
                1,
                cv2.LINE_AA,
            )
        rows.append(np.concatenate(cells, 1))
    return np.concatenate(rows)
