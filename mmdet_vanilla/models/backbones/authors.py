"""Backbones that begin with the ImageNet weights of their authors."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor

from mmdet_vanilla.utils.pretrained import (
    AUTHORS,
    InitialWeightsError,
    fetch_authors_weights,
    fetch_pretrained,
    pretrained_entry,
)
from mmdet_vanilla.utils.weights import WeightsError, check_weights


class FromAuthors:
    """For a backbone, before mmengine's ``BaseModule`` among its bases.

    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` takes a path, a URL, or ``'authors'`` for
    the file that the authors publish for the variant that is built. Their names are converted, and
    every tensor has to fit.

    Attributes:
        authors_url (str | None): Address of that file, ``None`` where there is none.
        title (str): Name of the variant, for messages.
    """

    authors_url: str | None = None
    title: str

    def _select_weights(
        self, checkpoint: Mapping, prefix: str | None
    ) -> tuple[dict[str, Tensor], list[str]]:
        """The backbone's tensors in a checkpoint by our names, and names of the classifier's."""
        raise NotImplementedError

    def _recognise(self, state: Mapping[str, Tensor]) -> str | None:
        """Which variant has these tensors, by our names; ``None`` if none has."""
        raise NotImplementedError

    def load_pretrained(self) -> str:
        """Loads the weights that ``init_cfg`` names.

        Returns:
            What was loaded, in words.

        Raises:
            UserError: If they cannot be had, or are not this variant's.
        """
        entry = pretrained_entry(self.init_cfg)
        source = entry['checkpoint']
        if source != AUTHORS:
            checkpoint = fetch_pretrained(source)
        elif self.authors_url is None:
            raise InitialWeightsError(
                f'the authors publish no weights for {self.title}: set '
                'model.backbone.init_cfg=None to train from scratch (--from-scratch), or its '
                'checkpoint to a file of your own.'
            )
        else:
            source = self.authors_url
            checkpoint = fetch_authors_weights(source)
        state, left_out = self._select_weights(checkpoint, entry.get('prefix'))
        try:
            check_weights(self, state, source)
        except WeightsError as error:
            found = self._recognise(state) or 'another network'
            raise WeightsError(
                f'{source} holds the weights of {found}, and the backbone is {self.title}: {error}'
            ) from None
        more = f'; left out {", ".join(left_out)}' if left_out else ''
        return f'{self.title}: loaded {len(state)} tensors from {source}{more}'

    def init_weights(self) -> None:
        """Initialises by ``init_cfg``, or with the weights that it names."""
        if pretrained_entry(self.init_cfg) is None:
            super().init_weights()
            return
        print_log(self.load_pretrained(), logger='current')
        self._is_init = True
