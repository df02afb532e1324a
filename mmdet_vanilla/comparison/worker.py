"""Measures one item in a process of its own: its memory and start-up are nobody else's.

A process that crashes or runs out of memory costs the others nothing.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from mmdet_vanilla.utils.atomic import write_text

from .items import Item

_PROGRESS = 'mmdet_vanilla.comparison progress '


class Answer(NamedTuple):
    """What has become of a worker.

    Attributes:
        results: By stage, what it returned; of those that were done.
        error: Why the next one failed, in one line, or ``None``.
    """

    results: dict[str, dict]
    error: str | None


def run_worker(
    stages: Sequence[str],
    item: Item,
    request: dict,
    folder: Path,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Answer:
    """Runs stages of one item, one after the other in one new process.

    Args:
        stages: ``'profile'``, which has to be the first, since it measures the process itself;
            ``'detect'``.
        item: The item.
        request: Arguments of the stages, JSON.
        folder: For the log and for what the process returns.
        on_progress: Called with the number of images that ``'detect'`` has done, 0 at first.
    """
    answer = folder / f'{item.key}.answer.json'
    answer.unlink(missing_ok=True)
    content = dict(request, stages=list(stages), item=asdict(item), answer=str(answer))
    log = folder / f'{item.key}.log'
    environment = dict(os.environ, MMDET_VANILLA_STARTED=repr(time.time()))
    command = [sys.executable, '-m', __name__, json.dumps(content)]
    with open(log, 'w') as file:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            env=environment,
        )
        try:
            for line in process.stdout:
                if line.startswith(_PROGRESS):
                    on_progress(int(line.removeprefix(_PROGRESS)))
                else:
                    file.write(line)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    try:
        found = Answer(**json.loads(answer.read_text()))
    except (OSError, ValueError):
        found = Answer({}, None)
    answer.unlink(missing_ok=True)
    if found.error is None and len(found.results) < len(stages):
        what = f'was killed by signal {-code}' if code < 0 else f'ended with status {code}'
        return Answer(found.results, f'its process {what}, see {log}')
    return found


def profile(item: Item, request: dict, started: float) -> dict:
    """Start-up, memory, parameters and operations of an item.

    Args:
        item: The item.
        request: ``image`` (path), ``device``, ``threads``, ``img_scale``, ``seed``.
        started: When the process was started, seconds since the epoch.

    Returns:
        ``startup_seconds`` (from nothing to the first detections: interpreter, imports, model,
        weights, fusing), ``memory_bytes`` (``peak`` while it detects in batches of 1, and
        ``imports``, what is resident before the model is built; on an accelerator the allocator's
        peak), ``input_size`` (H, W), and what :func:`costs` returns.
    """
    import torch

    from mmdet_vanilla.utils.host_memory import host_memory, reset_peak

    from .detectors import load_detector

    before = host_memory()
    device, image = request['device'], request['image']
    settings = {k: request[k] for k in ('device', 'threads', 'img_scale', 'seed')}
    detector = load_detector(item, **settings)
    loaded = detector.load(image)
    # Loading holds the weights twice, and fusing both forms: that is not what detecting takes.
    gc.collect()
    reset_peak()
    if device.startswith('cuda'):
        torch.cuda.reset_peak_memory_stats(device)
    data = detector.preprocess([loaded])
    input_size = list(data['inputs'].shape[-2:])
    detector.predict(data)
    detector.synchronize()
    startup = time.time() - started
    for _ in range(2):
        detector.predict(detector.preprocess([loaded]))
    after = host_memory()
    memory = None
    if device.startswith('cuda') and item.kind == 'pytorch':
        memory = dict(peak=torch.cuda.max_memory_allocated(device), imports=0)
    elif after is not None:
        memory = dict(peak=after.peak, imports=before.now)
    result = dict(startup_seconds=startup, memory_bytes=memory, input_size=input_size)
    del detector, data
    result.update(costs(item, request))
    return result


def costs(item: Item, request: dict) -> dict:
    """Parameters and operations of both forms, and the file's size.

    Returns:
        ``parameters``, ``macs`` (training form), ``parameters_fused``, ``macs_fused`` (``None``
        where there is no such form), ``uncounted`` (operators that the counter does not know) and
        ``file_bytes``. An exported file has a fused form alone, and its operations are not counted.
    """
    from mmdet_vanilla.utils.preflight import load_config

    from .cost import count_macs, count_parameters, exported_parameters, file_bytes, fused_form
    from .detectors import load_detector, scope

    result = dict.fromkeys(('parameters', 'macs', 'parameters_fused', 'macs_fused'))
    result.update(uncounted=[], file_bytes=file_bytes(item))
    if item.kind != 'pytorch':
        return dict(result, parameters_fused=exported_parameters(item))
    # Its training form, even if the checkpoint holds the fused one: costs need no weights.
    plain = replace(item, deploy=False)
    detector = load_detector(
        plain, request['device'], 1, request['img_scale'], request['seed'], weights=False
    )
    data = detector.preprocess([detector.load(request['image'])])
    cfg = load_config(item.path)
    with scope(cfg.get('default_scope') or 'mmdet'):
        forms = {'': detector.model}
        fused = fused_form(detector.model)
        if fused is not None:
            forms['_fused'] = fused
        for suffix, model in forms.items():
            macs = count_macs(model, data['inputs'], data['data_samples'])
            result[f'parameters{suffix}'] = count_parameters(model)
            result[f'macs{suffix}'] = macs.total
            result['uncounted'] = macs.uncounted
    return result


def detect(item: Item, request: dict) -> dict:
    """Detections of an item on a split.

    Args:
        item: The item.
        request: ``device``, ``threads``, ``img_scale``, ``seed``, ``ann_file``, ``images``,
            ``split``, ``out_file``.

    Returns:
        ``detections``, how many were written.
    """
    from .accuracy import detect_split
    from .dataset import match_classes, read_split
    from .detectors import load_detector

    settings = {k: request[k] for k in ('device', 'threads', 'img_scale', 'seed')}
    detector = load_detector(item, **settings)
    split = read_split(request['split'], request['ann_file'], request['images'])
    categories = match_classes(detector.classes, detector.num_classes, split, item.name)
    print(f'{_PROGRESS}0', flush=True)
    found = detect_split(
        detector,
        split,
        categories,
        Path(request['out_file']),
        lambda done: print(f'{_PROGRESS}{done}', flush=True),
    )
    return dict(detections=len(found))


def _main(content: str) -> None:
    request = json.loads(content)
    started = float(os.environ['MMDET_VANILLA_STARTED'])
    answer, results, error = Path(request['answer']), {}, None
    try:
        import torch

        import mmdet_vanilla  # noqa: F401
        from mmdet_vanilla.utils.checkpoint import restrict_mmengine_loading

        restrict_mmengine_loading()

        torch.set_num_threads(request['threads'])
        item = Item(**request['item'])
        for stage in request['stages']:
            results[stage] = (
                profile(item, request, started) if stage == 'profile' else detect(item, request)
            )
            # The next one may crash.
            write_text(answer, json.dumps(dict(results=results, error=None)))
    except Exception as raised:
        import traceback

        traceback.print_exc()
        error = describe(raised)
    write_text(answer, json.dumps(dict(results=results, error=error)))


def describe(error: Exception) -> str:
    """An error in one line."""
    from mmdet_vanilla.utils.errors import UserError

    text = ' '.join(str(error).split())
    text = text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'
    return text if len(text) <= 500 else text[:497] + '...'


if __name__ == '__main__':
    _main(sys.argv[1])
