"""Which images there are in a folder."""

from __future__ import annotations

import os
from functools import cached_property

from ...utils.images import SUFFIXES


class ImageIndex:
    """Names of images below a folder.

    Args:
        folder: The folder; it may be missing, and then holds nothing.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @cached_property
    def names(self) -> list[str]:
        """Names of the images in the folder itself, sorted."""
        try:
            entries = sorted(os.listdir(self.folder))
        except OSError:
            return []
        return [name for name in entries if name.lower().endswith(SUFFIXES)]

    @cached_property
    def _listed(self) -> frozenset[str]:
        return frozenset(self.names)

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        return {os.path.splitext(name)[0]: name for name in self.names}

    def __contains__(self, name: str) -> bool:
        if '/' not in name and name in self._listed:
            return True
        try:
            return os.path.isfile(os.path.join(self.folder, name))
        except ValueError:
            return False

    def by_stem(self, stem: str) -> str | None:
        """Name of the image with a name but for its suffix."""
        return self._by_stem.get(stem)
