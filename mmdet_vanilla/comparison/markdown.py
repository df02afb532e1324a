"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from .verdicts import verdicts


def to_report(report: Mapping, table: str) -> str:
    """``compare.md``.

    Args:
        report: Content of ``compare.json``.
        table: By :func:`to_markdown`.
    """
    machine = ', '.join(f'{k} {v}' for k, v in report['hardware'].items())
    versions = ', '.join(f'{k} {v}' for k, v in report['software'].items())
    lines = ['# Comparison of detectors', '', f'`{report["command"]}`', '', table]
    failed = [f'- {r["name"]}: {r["reason"]}' for r in report['rows'] if r['status'] == 'failed']
    if failed:
        lines += ['Failed:', '', *failed, '']
    found = verdicts(report)
    if found:
        lines += [
            'Differences of AP with their 95 % intervals:',
            '',
            *(f'- {s}' for s in found),
            '',
        ]
    lines += ['How it was measured:', '', *(f'- {note}' for note in report['notes'])]
    lines += [f'- {machine}.', f'- {versions}.', f'- {report["created"]}.', '']
    return '\n'.join(lines)
