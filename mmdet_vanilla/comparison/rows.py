"""The row of a detector in the table."""

from __future__ import annotations

from collections.abc import Sequence

from .columns import Column
from .entry import Entry
from .latency import summarize


def make_row(entry: Entry, columns: Sequence[Column], with_data: bool) -> dict:
    """What is known of a detector.

    Args:
        entry: The detector.
        columns: Of the table.
        with_data: Whether detectors are compared on data, so that a missing AP wants a reason.

    Returns:
        A value for every column, ``None`` where nothing is known.
    """
    row = dict.fromkeys(column.key for column in columns)
    row.update(_identity(entry))
    row.update(_costs(entry))
    row.update({key: value for key, value in _speed(entry).items() if key in row})
    if entry.evaluation:
        row.update({key: value for key, value in _accuracy(entry).items() if key in row})
    if entry.training:
        row.update(
            train_iterations=entry.training['iterations'],
            train_batch_size=entry.training['batch_size'],
        )
    row['reason'] = _reason(entry, with_data)
    return row


def _form(entry: Entry) -> str:
    if entry.item.kind != 'pytorch':
        return 'exported'
    return 'fused' if entry.item.deploy else 'training'


def _identity(entry: Entry) -> dict:
    return dict(
        name=entry.name,
        item=entry.item.spec,
        kind=entry.item.kind,
        form=_form(entry),
        weights=entry.weights,
        status='failed' if entry.state.error else 'ok',
    )


def _costs(entry: Entry) -> dict:
    profile = entry.state.profile or {}
    suffix = '' if _form(entry) == 'training' else '_fused'
    memory = profile.get('memory_bytes') or {}
    height, width = profile.get('input_size') or (None, None)
    return dict(
        input=f'{height}x{width}' if height else None,
        input_height=height,
        input_width=width,
        parameters=profile.get(f'parameters{suffix}'),
        parameters_training=profile.get('parameters'),
        parameters_fused=profile.get('parameters_fused'),
        macs=profile.get(f'macs{suffix}'),
        macs_training=profile.get('macs'),
        macs_fused=profile.get('macs_fused'),
        file_bytes=profile.get('file_bytes'),
        peak_memory_bytes=memory.get('peak'),
        import_memory_bytes=memory.get('imports'),
        startup_seconds=profile.get('startup_seconds'),
    )


def _speed(entry: Entry) -> dict:
    found = {}
    for size, timings in entry.state.timings.items():
        if not timings:
            continue
        summary = summarize(timings)
        found[f'throughput_{size}'] = 1e3 * size / summary.median
        if size == 1:
            found.update(
                latency_ms=summary.median,
                latency_p10_ms=summary.p10,
                latency_p95_ms=summary.p95,
                preprocess_ms=summary.pre,
                network_ms=summary.network,
                postprocess_ms=summary.post,
                rounds=len(timings),
            )
    return found


def _accuracy(entry: Entry) -> dict:
    stats = entry.evaluation.stats
    low, high = entry.interval or (None, None)
    per_class = {f'AP:{name}': ap for name, ap in entry.evaluation.per_class.items()}
    return dict(stats, AR=stats['AR100'], AP_low=low, AP_high=high, **per_class)


def _reason(entry: Entry, with_data: bool) -> str | None:
    error = entry.state.error
    reasons = [error] if error else []
    if with_data and not entry.item.has_weights and not error:
        reasons.append('no AP: no checkpoint was given, the weights are random')
    errors = sorted(entry.state.batch_errors.items())
    reasons += [f'batch of {size}: {text}' for size, text in errors]
    return '; '.join(reasons) or None
