"""One interface to detectors of mmdet and to exported files, in the three parts that are timed."""

from __future__ import annotations

import contextlib
import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmdet_vanilla.models import RTDETR
from mmdet_vanilla.utils.checkpoint import fetch_checkpoint
from mmdet_vanilla.utils.classes import apply_classes, classes_of
from mmdet_vanilla.utils.convert import is_foreign, rename_to_ours
from mmdet_vanilla.utils.preflight import load_config
from mmdet_vanilla.utils.pretrained import remove_pretrained
from mmdet_vanilla.utils.weights import load_weights

from .cost import fused_form
from .errors import ComparisonError
from .items import Item
from .preprocessing import Preprocessing, force_size, own_pipeline

_METADATA = ('names', 'input_size', 'mean', 'std', 'channel_order')


class Detector:
    """A detector that is ready to run.

    Args:
        preprocessing: Its test pipeline.
        data_preprocessor: Normalises, pads and stacks.
        classes: Names of its classes in the order of its labels, or ``None`` if nothing tells them.
        num_classes: Number of its classes, or ``None``.

    Attributes:
        post_seconds: Duration of decoding, top-k and NMS in the last :meth:`predict`, or ``None``
            where that cannot be told from the network.
    """

    max_batch_size: int | None = None

    def __init__(
        self,
        preprocessing: Preprocessing,
        data_preprocessor: nn.Module,
        classes: tuple[str, ...] | None,
        num_classes: int | None,
    ) -> None:
        self.load = preprocessing.load
        self._preprocessing = preprocessing
        self._data_preprocessor = data_preprocessor
        self.classes = classes
        self.num_classes = num_classes
        self.post_seconds: float | None = None

    def preprocess(self, loaded: Sequence[dict]) -> dict:
        """A batch of decoded images as the network takes them.

        Returns:
            ``inputs`` (N, 3, H, W), normalised, and ``data_samples``.
        """
        data = pseudo_collate([self._preprocessing(image) for image in loaded])
        return self._data_preprocessor(data, False)

    def predict(self, data: dict) -> list[InstanceData]:
        """Detections of a batch: ``bboxes`` in pixels of the files, ``scores``, ``labels``."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Waits for the device."""


class TorchDetector(Detector):
    """A detector of mmdet.

    Args:
        model: In evaluation mode, on its device.
        preprocessing, classes, num_classes: See :class:`Detector`.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        classes: tuple[str, ...] | None,
        num_classes: int | None,
    ) -> None:
        super().__init__(preprocessing, model.data_preprocessor, classes, num_classes)
        self.use(model)

    def use(self, model: nn.Module) -> None:
        """Exchanges the model for another form of it."""
        self.model = model
        self._clock = _PostprocessingClock(model, self.synchronize)

    def predict(self, data: dict) -> list[InstanceData]:
        with torch.no_grad(), self._clock:
            samples = self.model.predict(data['inputs'], data['data_samples'])
        self.post_seconds = self._clock.seconds if self._clock.heads else None
        return [sample.pred_instances for sample in samples]

    def synchronize(self) -> None:
        if self._data_preprocessor.device.type == 'cuda':
            torch.cuda.synchronize(self._data_preprocessor.device)


class ExportedDetector(Detector):
    """An exported file in its runtime, whose metadata say how it wants its images.

    Args:
        item: The file.
        threads: Of the runtime.
        img_scale: Side of a forced square input, or ``None``.

    Raises:
        ComparisonError: If the file says too little about itself.
        DeployError: If its runtime is missing or cannot load it.
    """

    def __init__(self, item: Item, threads: int, img_scale: int | None = None) -> None:
        from mmdet_vanilla.deploy.runtimes import LOADERS

        meta = read_metadata(item)
        self.metadata = meta
        height, width = meta['input_size']
        pad_value = meta['mean'] if meta['channel_order'] == 'BGR' else meta['mean'][::-1]
        steps = [
            dict(type='LoadImageFromFile'),
            dict(
                type='Resize',
                scale=(width, height),
                keep_ratio=bool(meta.get('keep_ratio', False)),
            ),
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            ),
        ]
        if img_scale:
            if not meta.get('dynamic', True) and (height, width) != (img_scale, img_scale):
                raise ComparisonError(
                    f'{item.path} takes {width}x{height} only, not --img-scale {img_scale}.'
                )
            steps = force_size(steps, img_scale, pad_value)
        data_preprocessor = MODELS.build(
            dict(
                type='mmdet.DetDataPreprocessor',
                mean=meta['mean'],
                std=meta['std'],
                bgr_to_rgb=meta['channel_order'] == 'RGB',
                pad_size_divisor=meta.get('size_divisor', 1),
            )
        )
        names = tuple(meta['names'])
        super().__init__(Preprocessing(steps), data_preprocessor, names, len(names))
        self._detect = LOADERS[item.kind](Path(item.path), threads)
        if not meta.get('dynamic', True):
            self.max_batch_size = 1

    def predict(self, data: dict) -> list[InstanceData]:
        inputs = np.ascontiguousarray(data['inputs'].numpy())
        dets, labels = self._detect(inputs)
        start = time.perf_counter()
        results = []
        for found, label, sample in zip(dets, labels, data['data_samples']):
            keep = label >= 0  # where a runtime fills up the list
            scale = np.tile(np.float32(sample.metainfo['scale_factor']), 2)
            results.append(
                InstanceData(
                    bboxes=torch.from_numpy(found[keep, :4] / scale),
                    scores=torch.from_numpy(found[keep, 4]),
                    labels=torch.from_numpy(label[keep]).long(),
                )
            )
        # Decoding and top-k are in the file.
        self.post_seconds = time.perf_counter() - start
        return results


class _PostprocessingClock:
    """Sums up the time spent in ``predict_by_feat`` of a model's heads while it is entered.

    In mmdet 3.x every head decodes its outputs there: box decoding, top-k, NMS. An RPN's is
    counted too, since its NMS is.
    """

    def __init__(self, model: nn.Module, synchronize: Callable[[], None]) -> None:
        self.seconds = 0.0
        self._inside = False
        self._synchronize = synchronize
        self.heads = [m for m in model.modules() if callable(getattr(m, 'predict_by_feat', None))]

    def __enter__(self) -> None:
        self.seconds = 0.0
        for head in self.heads:
            head.predict_by_feat = self._timed(head.predict_by_feat)

    def __exit__(self, *error: object) -> None:
        for head in self.heads:
            del head.predict_by_feat

    def _timed(self, method: Callable) -> Callable:
        def predict_by_feat(*args, **kwargs):
            if self._inside:
                return method(*args, **kwargs)
            self._synchronize()
            start = time.perf_counter()
            self._inside = True
            try:
                return method(*args, **kwargs)
            finally:
                self._inside = False
                self._synchronize()
                self.seconds += time.perf_counter() - start

        return predict_by_feat


def config_of(item: Item) -> Config:
    """The config of an item; for as many classes as its checkpoint has, if that names them."""
    cfg = load_config(item.path)
    if item.checkpoint and cfg.get('model'):
        classes = classes_of(fetch_checkpoint(item.checkpoint))
        if classes and num_classes_of(cfg) not in (None, len(classes)):
            apply_classes(cfg, classes)
    return cfg


def load_detector(
    item: Item,
    device: str = 'cpu',
    threads: int = 1,
    img_scale: int | None = None,
    seed: int = 0,
    weights: bool = True,
) -> Detector:
    """Builds an item.

    Args:
        item: What to build; without a checkpoint its weights are random.
        device: Of PyTorch models.
        threads: Of exported files' runtimes.
        img_scale: Side of a forced square input, or ``None`` for its own size.
        seed: Of random weights.
        weights: Whether to load its checkpoint.

    Raises:
        UserError: If something about it is wrong.
    """
    if item.kind != 'pytorch':
        with scope('mmdet'):
            return ExportedDetector(item, threads, img_scale)
    cfg = config_of(item)
    with scope(cfg.get('default_scope') or 'mmdet'):
        model, classes = build_model(cfg, item.checkpoint if weights else None, seed)
        steps = own_pipeline(cfg)
        if img_scale:
            steps = force_size(steps, img_scale, _pad_value(cfg))
        model = model.to(device)
        detector = TorchDetector(model, Preprocessing(steps), classes, num_classes_of(cfg))
        if item.deploy:
            fused = fused_form(model)
            if fused is None:
                raise ComparisonError(
                    f'{item.spec}: {type(model).__name__} has no fused form: nothing to merge, or '
                    'the merged form does not compute the same. Leave @deploy out.'
                )
            detector.use(fused)
    return detector


def build_model(
    cfg: Config, checkpoint: str | None = None, seed: int = 0
) -> tuple[nn.Module, tuple[str, ...] | None]:
    """Builds the model of a config with the weights of a checkpoint, or with random ones.

    Args:
        cfg: Its config.
        checkpoint: Path or URL; every tensor has to fit.
        seed: Of random weights, for which no file is downloaded.

    Returns:
        The model in evaluation mode, and its classes if anything tells them.

    Raises:
        UserError: If the checkpoint cannot be read or belongs to another model.
    """
    model_cfg = copy.deepcopy(cfg.model)
    remove_pretrained(model_cfg)
    torch.manual_seed(seed)
    np.random.seed(seed)
    model = revert_sync_batchnorm(MODELS.build(model_cfg))
    names = None
    if checkpoint is None:
        with _silent_initialisation():
            model.init_weights()
    else:
        content = fetch_checkpoint(checkpoint)
        if isinstance(model, RTDETR) and is_foreign(content):
            content = dict(state_dict=rename_to_ours(content)[1])
        names = classes_of(content)
        load_weights(model, content, checkpoint)
    return model.eval(), names or _classes_of(cfg)


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Looks names up in a library's registries."""
    register_all_modules(init_default_scope=False)
    init_default_scope(name)
    yield


def num_classes_of(cfg: Config) -> int | None:
    """Number of classes of the box head, if the config tells."""
    model = cfg.model
    heads = [model.get('bbox_head'), (model.get('roi_head') or {}).get('bbox_head'), model]
    for head in heads:
        if isinstance(head, (list, tuple)):
            head = head[-1]
        if head and head.get('num_classes'):
            return head['num_classes']
    return None


def _classes_of(cfg: Config) -> tuple[str, ...] | None:
    """The names of the data set in the config, or those of its type."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while dataset.get('dataset'):
        dataset = dataset['dataset']
    names = (dataset.get('metainfo') or {}).get('classes')
    if not names and dataset.get('type') == 'CocoDataset':
        from mmdet.datasets import CocoDataset

        names = CocoDataset.METAINFO['classes']
    return (names,) if isinstance(names, str) else tuple(names) if names else None


def _pad_value(cfg: Config) -> list[float]:
    preprocessor = cfg.model.get('data_preprocessor') or {}
    mean = list(preprocessor.get('mean') or [114.0] * 3)
    return mean[::-1] if preprocessor.get('bgr_to_rgb') else mean


def read_metadata(item: Item) -> dict:
    """What an exported file says about itself.

    Raises:
        ComparisonError: If it says too little.
    """
    from mmdet_vanilla.deploy.convert import parse_metadata, read_openvino_metadata
    from mmdet_vanilla.deploy.runtimes import require_runtime

    if item.kind == 'openvino':
        return parse_metadata(read_openvino_metadata(Path(item.path)))
    require_runtime('onnxruntime')
    import onnx

    try:
        model = onnx.load(item.path, load_external_data=False)
    except Exception as error:  # protobuf's and its own have no common base
        raise ComparisonError(f'{item.path} is not an ONNX file: {error}') from None
    found = {entry.key: entry.value for entry in model.metadata_props}
    missing = [key for key in _METADATA if key not in found]
    if missing:
        raise ComparisonError(
            f'{item.path} says nothing about its {", ".join(missing)}: export it with '
            'tools/deploy.py.'
        )
    return parse_metadata(found)


@contextlib.contextmanager
def _silent_initialisation() -> Iterator[None]:
    # mmengine tells of every parameter, by the logger that it makes where there is none.
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
