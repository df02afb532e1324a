"""Exports a checkpoint, verifies the result and reports what it is: what tools/deploy.py does."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmdet_vanilla.utils.timing import median, time_interleaved

from . import exporter
from .convert import to_float16, to_int8, to_openvino
from .errors import DeployError
from .metadata import make_metadata
from .runtimes import LOADERS, Detect, require_runtime
from .verify import (
    TOLERANCES,
    Verification,
    exported_detections,
    reference_detections,
    tolerance_of,
    verify,
)

_SAVE_FILES = dict(torchscript='end2end.pt')
# Built from the ONNX file on the machine that runs it; here the file itself is checked.
_CHECKED_ON = dict(tensorrt='onnxruntime')
PRECISIONS = tuple(TOLERANCES)


@dataclass
class Report:
    """What was exported and how it compares with the PyTorch model.

    Attributes:
        file: The artefact.
        backend: What it was made for.
        runtime: Where it was verified.
        precision: ``'fp32'``, ``'fp16'``, ``'bf16'`` or ``'int8'``.
        megabytes: Size of the artefact.
        num_nodes: Nodes of the ONNX graph; ``None`` for TorchScript.
        custom_operators: Operators outside of ONNX's own domain.
        operators: Number of nodes of each operator.
        verification: Comparison with the PyTorch model.
        milliseconds: Median latency of one image, and of the fused PyTorch model beside it.
        ap: With data: AP of the PyTorch model and of the artefact, 0..100.
        passed: Whether all checks passed.
        seconds: Duration of everything.
        versions: Of the software.
    """

    file: str
    backend: str
    runtime: str
    precision: str
    megabytes: float
    num_nodes: int | None
    custom_operators: list[str]
    operators: dict[str, int]
    verification: Verification
    milliseconds: dict[str, float]
    ap: dict[str, float] | None
    passed: bool
    seconds: float
    versions: dict[str, str]

    def as_dict(self) -> dict:
        """JSON form."""
        content = asdict(self)
        content['verification'] = self.verification._asdict()
        content['verification']['tolerance'] = self.verification.tolerance._asdict()
        return content


def ship(
    cfg: Config,
    checkpoint: str,
    deploy_cfg: Config,
    work_dir: Path,
    images: Sequence[str],
    calibration: Sequence[str] = (),
    evaluate: bool = False,
    rounds: int = 5,
) -> Report:
    """Fuses, exports, verifies.

    Args:
        cfg: Config of the model; with ``evaluate`` its test data are used.
        checkpoint: Path or URL.
        deploy_cfg: One of ``configs/deploy`` or a config for mmdeploy.
        work_dir: Folder of the artefact and of ``verify.json``.
        images: Real images to verify with.
        calibration: Real images to calibrate 8 bits with, by default ``images``.
        evaluate: Whether to run COCO evaluation on both.
        rounds: Timed calls.

    Returns:
        The report. Where a check failed the artefact is named ``*.unverified.*``.

    Raises:
        DeployError: If the export is not possible. No file is left then.
    """
    start = time.perf_counter()
    backend = deploy_cfg.backend_config.type
    runtime = _CHECKED_ON.get(backend, backend)
    precision = deploy_cfg.backend_config.get('precision', 'fp32')
    if runtime not in LOADERS:
        raise DeployError(
            f'backend_config.type={backend!r}: expected one of '
            f'{", ".join((*LOADERS, *_CHECKED_ON))} (docs/deployment.md).'
        )
    if precision not in PRECISIONS:
        raise DeployError(f'precision={precision!r}: expected one of {", ".join(PRECISIONS)}.')
    if precision == 'bf16' and runtime != 'openvino':
        raise DeployError(f'{backend} has no bf16 on the CPU: use configs/deploy/openvino_bf16.py.')
    require_runtime(runtime)
    if runtime == 'openvino' and precision == 'int8':
        require_runtime('nncf')
    if not images:
        raise DeployError('no image to verify with: give --image or --data.')
    model, names = exporter.load_model(cfg, checkpoint)
    exporter.check_exportable(model, deploy_cfg)
    inputs = exporter.example_images(cfg, deploy_cfg, images)
    samples = exporter.example_images(cfg, deploy_cfg, calibration) if calibration else inputs
    fused = exporter.fuse(model)
    graph = None
    # The graph, what simplifies it and what is made of it.
    size = 3 * sum(p.numel() * p.element_size() for p in fused.parameters())
    name = _SAVE_FILES.get(runtime, 'end2end.onnx')
    with exporter.working_copy(work_dir, name, size) as path:
        if runtime == 'torchscript':
            exporter.export_torchscript(fused, inputs[0], deploy_cfg, path)
            detect, verification = _verified(model, path, runtime, precision, inputs)
        else:
            exporter.export_onnx(fused, inputs[0], deploy_cfg, path)
            plain = path.with_name('plain.onnx')
            plain.write_bytes(path.read_bytes())
            exporter.simplify_onnx(path)
            arrays = [image.numpy() for image in samples]

            def finish() -> tuple[exporter.Graph, Path, Detect, Verification]:
                artefact = path
                if runtime == 'onnxruntime' and precision == 'fp16':
                    to_float16(path)
                elif runtime == 'onnxruntime' and precision == 'int8':
                    to_int8(path, arrays)
                graph = exporter.finish_onnx(path, cfg, names, deploy_cfg)
                if runtime == 'openvino':
                    metadata = make_metadata(cfg, names, deploy_cfg)
                    artefact = to_openvino(path, metadata, precision, arrays)
                return graph, artefact, *_verified(model, artefact, runtime, precision, inputs)

            graph, artefact, detect, verification = finish()
            if not verification.passed:
                # Simplified only if it stays correct.
                path.write_bytes(plain.read_bytes())
                graph, artefact, detect, verification = finish()
            plain.unlink()
            path = artefact
        custom = graph.custom_operators if graph else []
        milliseconds = _time(fused, detect, inputs[0], runtime, rounds)
        ap = _evaluate(cfg, model, detect) if evaluate else None
        passed = is_passed(verification, custom, precision, ap)
        size = sum(file.stat().st_size for file in path.parent.glob(f'{path.stem}.*'))
        if runtime == 'openvino':
            size -= path.with_suffix('.onnx').stat().st_size
        if not passed:
            path = exporter.mark_unverified(path)
        report = Report(
            file=str(work_dir / path.name),
            backend=backend,
            runtime=runtime,
            precision=precision,
            megabytes=size / 1e6,
            num_nodes=graph.num_nodes if graph else None,
            custom_operators=custom,
            operators=graph.operators if graph else {},
            verification=verification,
            milliseconds=milliseconds,
            ap=ap,
            passed=passed,
            seconds=time.perf_counter() - start,
            versions=_versions(runtime),
        )
        (path.parent / 'verify.json').write_text(json.dumps(report.as_dict(), indent=2) + '\n')
    return report


def is_passed(
    verification: Verification,
    custom_operators: Sequence[str],
    precision: str,
    ap: Mapping[str, float] | None = None,
) -> bool:
    """Whether an artefact may be used: all of its checks at once.

    Args:
        verification: Comparison with the PyTorch model.
        custom_operators: Operators outside of ONNX's own domain. A float32 file has to do without;
            ONNX Runtime's own tools put some into files of lower precision.
        precision: Of the artefact.
        ap: ``'pytorch'`` and ``'exported'``, 0..100, if there were data.
    """
    passed = verification.passed and (not custom_operators or precision != 'fp32')
    if ap:
        # COCO's AP has three decimals.
        difference = round(abs(ap['exported'] - ap['pytorch']), 6)
        passed = passed and difference <= verification.tolerance.ap
    return passed


def _verified(
    model: nn.Module, path: Path, runtime: str, precision: str, inputs: Sequence[Tensor]
) -> tuple[Detect, Verification]:
    hint = dict(precision='bf16') if precision == 'bf16' else {}
    detect = LOADERS[runtime](path, torch.get_num_threads(), **hint)
    return detect, verify(model, detect, inputs, tolerance_of(model, precision))


def _time(
    fused: nn.Module, detect: Detect, images: Tensor, runtime: str, rounds: int
) -> dict[str, float]:
    array = images.numpy()
    seconds = time_interleaved(
        {'pytorch': lambda: reference_detections(fused, images), runtime: lambda: detect(array)},
        rounds=rounds,
    )
    return {name: median(values) for name, values in seconds.items()}


def _evaluate(cfg: Config, model: nn.Module, detect: Detect) -> dict[str, float]:
    """AP of both on the config's test data, 0..100, from the same inputs."""
    from mmdet.registry import DATASETS, MODELS
    from mmengine.evaluator import Evaluator

    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    evaluators = {}
    for name in ('pytorch', 'exported'):
        evaluators[name] = Evaluator(cfg.test_evaluator)
        evaluators[name].dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        data = preprocessor(pseudo_collate([dataset[i]]), False)
        [sample] = data['data_samples']
        found = dict(
            pytorch=reference_detections(model, data['inputs'])[0],
            exported=exported_detections(detect, data['inputs'])[0],
        )
        scale = np.tile(sample.metainfo['scale_factor'], 2)
        for name, instances in found.items():
            instances.bboxes = instances.bboxes / instances.bboxes.new_tensor(scale)
            sample.pred_instances = instances
            evaluators[name].process([sample], data)
    ap = {}
    for name, evaluator in evaluators.items():
        metrics = evaluator.evaluate(len(dataset))
        ap[name] = 100 * next(v for k, v in metrics.items() if k.endswith('bbox_mAP'))
    return ap


def _versions(runtime: str) -> dict[str, str]:
    import mmcv
    import mmdet
    import mmengine

    packages = dict(torch=torch, mmengine=mmengine, mmcv=mmcv, mmdet=mmdet)
    packages[runtime] = require_runtime(runtime)
    return {name: package.__version__ for name, package in packages.items()}
