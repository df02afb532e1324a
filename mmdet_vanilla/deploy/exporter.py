"""From a config and a checkpoint to an exported, verified file."""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from mmcv.transforms import Compose
from mmdeploy.apis.onnx import export as mmdeploy_onnx_export
from mmdeploy.apis.torch_jit import trace as mmdeploy_trace
from mmdeploy.codebase import import_codebase
from mmdeploy.utils import (
    get_codebase,
    get_dynamic_axes,
    get_input_shape,
    get_ir_config,
    is_dynamic_shape,
)
from mmdeploy.utils.config_utils import get_codebase_external_module
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdet_vanilla.models.backbones.vanillanet import AdaptiveHalfPool2d
from mmdet_vanilla.models.layers.deformable_attention import DeformableAttention
from mmdet_vanilla.models.layers.reparam import switch_to_deploy
from mmdet_vanilla.utils.checkpoint import fetch_checkpoint
from mmdet_vanilla.utils.classes import classes_of
from mmdet_vanilla.utils.weights import load_weights

from .errors import DeployError
from .metadata import make_metadata, write_metadata
from .runtimes import require_runtime
from .symbolics import GRID_SAMPLE_OPSET, LAYER_NORM_OPSET
from .tensor_detector import TensorDetector

# torch.onnx.export has had a second exporter since 2.5, the default since 2.9.
BY_TRACING = (
    {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
)

SIDE_DIVISOR = 32  # of every input's height and width
_UNVERIFIED = '.unverified'


class Graph(NamedTuple):
    """What an ONNX file is made of."""

    num_nodes: int
    operators: dict[str, int]  # how many nodes of each
    custom_operators: list[str]  # outside of ONNX's own domain
    size: int  # bytes, with external data


def load_model(cfg: Config, checkpoint: str) -> tuple[nn.Module, list[str]]:
    """Builds a detector and loads its weights.

    Args:
        cfg: Config of the model.
        checkpoint: Path or URL.

    Returns:
        The detector in evaluation mode, in the form of the checkpoint, and its class names.

    Raises:
        UserError: If the checkpoint cannot be read or belongs to another model.
    """
    content = fetch_checkpoint(checkpoint)
    register_all_modules(init_default_scope=True)
    model = MODELS.build(copy.deepcopy(cfg.model))
    load_weights(model, content, checkpoint)
    return model.eval(), class_names(cfg, content)


def class_names(cfg: Config, checkpoint: dict) -> list[str]:
    """Names of the classes: the checkpoint's, the data set's of the config, or their numbers."""
    names = classes_of(checkpoint)
    if not names:
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        names = (dataset.get('metainfo') or {}).get('classes')
    if not names and str(dataset.get('type', '')).endswith('CocoDataset'):
        from mmdet.datasets import CocoDataset

        names = CocoDataset.METAINFO['classes']
    num = cfg.model.bbox_head.num_classes
    if not names or len(names) != num:
        return [str(i) for i in range(num)]
    return list(names)


def fuse(model: nn.Module) -> nn.Module:
    """A fused copy of a detector.

    Raises:
        DeployError: If it is in the middle of deep training.
    """
    fused = copy.deepcopy(model)
    try:
        switch_to_deploy(fused)
    except RuntimeError as error:
        raise DeployError(f'this checkpoint cannot be exported: {error}') from None
    return fused.eval()


def check_exportable(model: nn.Module, deploy_cfg: Config) -> None:
    """Checks what can be told of an export before it begins.

    Raises:
        DeployError: If the model's operators do not fit the opset or the dynamic input.
    """
    modules = list(model.modules())
    if is_dynamic_shape(deploy_cfg) and any(isinstance(m, AdaptiveHalfPool2d) for m in modules):
        raise DeployError(
            'VanillaNet with ada_pool pools to half of whatever size comes in, which ONNX can only '
            'write down for one size: use a static deploy config.'
        )
    ir_config = get_ir_config(deploy_cfg)
    if ir_config['type'] != 'onnx':
        return
    if ir_config.get('dynamo'):
        if not BY_TRACING:
            raise DeployError(
                f'onnx_config.dynamo needs torch 2.5 or newer, this is {torch.__version__}: leave '
                'it out to export by tracing.'
            )
        require_runtime('onnxscript')
    opset = ir_config.get('opset_version', 11)
    samples = any(isinstance(m, DeformableAttention) and m.method == 'bilinear' for m in modules)
    if samples and opset < GRID_SAMPLE_OPSET:
        raise DeployError(
            f'opset {opset} has no GridSample: set onnx_config.opset_version to '
            f"{LAYER_NORM_OPSET} or more, or sampling_method='discrete' in model.bbox_head."
        )
    if opset < LAYER_NORM_OPSET:
        raise DeployError(
            f'opset {opset} has no LayerNormalization: set onnx_config.opset_version to '
            f'{LAYER_NORM_OPSET} or more.'
        )


def export_onnx(model: nn.Module, images: Tensor, deploy_cfg: Config, path: Path) -> None:
    """Exports a detector by mmdeploy, or with ``onnx_config.dynamo`` by PyTorch's other exporter.

    Args:
        model: The fused detector.
        images: Example input (N, 3, H, W), normalised.
        deploy_cfg: Config of the export.
        path: The file to write, ending in ``.onnx``.
    """
    config = get_ir_config(deploy_cfg)
    if config.get('dynamo'):
        _export_by_dynamo(model, images, config, path)
        return
    _import_rewriters(deploy_cfg)
    names = dict(input_names=config['input_names'], output_names=config['output_names'])
    with _quiet_tracing(), _forward_restored(model):
        mmdeploy_onnx_export(
            model,
            images,
            str(path.with_suffix('')),
            backend=deploy_cfg.backend_config.type,
            input_metas=_input_metas(images),
            context_info=dict(deploy_cfg=copy.deepcopy(deploy_cfg)),
            opset_version=config.get('opset_version', 11),
            dynamic_axes=get_dynamic_axes(deploy_cfg, sum(names.values(), [])),
            keep_initializers_as_inputs=config.get('keep_initializers_as_inputs', False),
            **names,
        )


def _export_by_dynamo(model: nn.Module, images: Tensor, config: dict, path: Path) -> None:
    axes = (config.get('dynamic_axes') or {}).get('input', {})
    shapes = {axis: torch.export.Dim(name) for axis, name in axes.items()}
    for axis in {2, 3} & set(shapes):
        shapes[axis] = SIDE_DIVISOR * shapes[axis]
    if 0 in shapes:
        # A batch of one image would be taken for a constant.
        images = images[:1].expand(2, -1, -1, -1)
    with torch.no_grad(), _quiet_tracing():
        torch.onnx.export(
            TensorDetector(model),
            (images,),
            str(path),
            dynamo=True,
            input_names=config['input_names'],
            output_names=config['output_names'],
            opset_version=config['opset_version'],
            dynamic_shapes=dict(images=shapes),
            external_data=False,
            verbose=False,
        )


def export_torchscript(model: nn.Module, images: Tensor, deploy_cfg: Config, path: Path) -> None:
    """Traces a detector by mmdeploy; as :func:`export_onnx`, the file ends in ``.pt``."""
    _import_rewriters(deploy_cfg)
    with _quiet_tracing(), _forward_restored(model):
        mmdeploy_trace(
            model,
            images,
            str(path.with_suffix('')),
            backend=deploy_cfg.backend_config.type,
            input_metas=_input_metas(images),
            context_info=dict(deploy_cfg=copy.deepcopy(deploy_cfg)),
            check_trace=False,
        )


def simplify_onnx(path: Path) -> bool:
    """Folds constants and removes what has no effect, in place.

    Returns:
        Whether the file was changed; it stays as it was where the simplifier fails.
    """
    import onnx
    import onnxslim

    try:
        model = onnxslim.slim(str(path))
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # whatever it is, the file works without
        print_log(f'Not simplified: {error}', logger='current', level=logging.WARNING)
        return False
    onnx.save(model, str(path))
    return True


def finish_onnx(path: Path, cfg: Config, names: Sequence[str], deploy_cfg: Config) -> Graph:
    """Checks an ONNX file and writes its metadata.

    Args:
        path: The file, changed in place.
        cfg: Config of the model.
        names: Names of its classes.
        deploy_cfg: Config of the export.

    Returns:
        What it is made of.
    """
    import onnx

    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    write_metadata(model, make_metadata(cfg, names, deploy_cfg))
    onnx.save(model, str(path))
    operators = Counter(node.op_type for node in model.graph.node)
    custom = {node.op_type for node in model.graph.node if node.domain not in ('', 'ai.onnx')}
    return Graph(
        len(model.graph.node), dict(operators.most_common()), sorted(custom), path.stat().st_size
    )


@contextlib.contextmanager
def working_copy(work_dir: Path, name: str, size: int = 0) -> Iterator[Path]:
    """A path to write a file at, which reaches its place only once it is whole.

    Args:
        work_dir: Folder of the file; made if needed.
        name: Name of the file.
        size: Bytes that have to be free.

    Yields:
        Path of that name in a folder beside; what lies there is moved to ``work_dir`` at the end
        (:func:`mark_unverified` tells what it replaces), and dropped on errors.

    Raises:
        DeployError: If the folder cannot be written to, or the disk is full.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(work_dir).free
        folder = Path(tempfile.mkdtemp(prefix='.export-', dir=work_dir))
    except OSError as error:
        raise DeployError(f'cannot write to {work_dir}: {error.strerror}.') from None
    # Beforehand, since torch.jit.save ends the process on a full disk.
    if free < size:
        folder.rmdir()
        raise DeployError(
            f'cannot write {work_dir / name}: {size / 1e6:.0f} MB are needed, '
            f'{free / 1e6:.0f} MB are free.'
        )
    try:
        yield folder / name
        for file in list(folder.iterdir()):  # weights may lie beside
            os.replace(file, work_dir / file.name)
            _counterpart(work_dir / file.name).unlink(missing_ok=True)
    except OSError as error:
        raise DeployError(f'cannot write {work_dir / name}: {error.strerror}.') from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def mark_unverified(path: Path) -> Path:
    """Renames an artefact, with what lies beside it, so that nobody takes it for verified.

    In the folder of artefacts ``end2end.unverified.onnx`` takes the place of an earlier
    ``end2end.onnx``, and the other way round, so that the report beside is always about the file
    that is there.

    Args:
        path: The artefact in its working folder.

    Returns:
        Its new path.
    """
    for file in list(path.parent.glob(f'{path.stem}.*')):
        file.rename(_counterpart(file))
    return _counterpart(path)


def _counterpart(path: Path) -> Path:
    stem = path.stem
    other = stem.removesuffix(_UNVERIFIED) if stem.endswith(_UNVERIFIED) else stem + _UNVERIFIED
    return path.with_name(other + path.suffix)


def example_images(cfg: Config, deploy_cfg: Config, images: Sequence[str]) -> list[Tensor]:
    """Images as the network sees them, by the config's test pipeline.

    Args:
        cfg: Config of the model.
        deploy_cfg: Config of the export; a static input size counts.
        images: Paths.

    Returns:
        Tensors (1, 3, H, W).

    Raises:
        DeployError: If an image cannot be read.
    """
    from mmdeploy.codebase.mmdet.deploy.object_detection import process_model_config

    shape = get_input_shape(deploy_cfg) if not is_dynamic_shape(deploy_cfg) else None
    cfg = process_model_config(copy.deepcopy(cfg), list(images), shape)
    pipeline = Compose(cfg.test_pipeline)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    tensors = []
    for path in images:
        try:
            data = pipeline(dict(img_path=str(path), img_id=0))
        except (OSError, AssertionError, AttributeError, ValueError) as error:
            raise DeployError(f'cannot read the image {path}: {error}.') from None
        if data is None:
            raise DeployError(f'cannot read the image {path}.')
        tensors.append(preprocessor(pseudo_collate([data]), False)['inputs'])
    return tensors


def _import_rewriters(deploy_cfg: Config) -> None:
    modules = get_codebase_external_module(deploy_cfg)
    import_codebase(get_codebase(deploy_cfg), modules)


def _input_metas(images: Tensor) -> dict:
    sample = DetDataSample()
    size = tuple(images.shape[-2:])
    sample.set_metainfo(dict(img_shape=size, batch_input_shape=size))
    return dict(data_samples=[sample], mode='predict')


@contextlib.contextmanager
def _forward_restored(model: nn.Module) -> Iterator[None]:
    # mmdeploy leaves its own forward on the model, which works inside its exports only.
    try:
        yield
    finally:
        vars(model).pop('forward', None)


@contextlib.contextmanager
def _quiet_tracing() -> Iterator[None]:
    # What a trace makes constant is a number of this model, or of a static input.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.filterwarnings('ignore', category=DeprecationWarning)
        yield
