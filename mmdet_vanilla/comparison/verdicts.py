"""What differences of AP say, in sentences."""

from __future__ import annotations

from collections.abc import Mapping


def verdicts(report: Mapping) -> list[str]:
    """The best detector against every other one.

    Args:
        report: Content of ``compare.json``.

    Returns:
        Sentences; none with fewer than two APs.
    """
    aps = {row['name']: row['AP'] for row in report['rows'] if row.get('AP') is not None}
    if len(aps) < 2:
        return []
    best = max(aps, key=aps.get)
    sentences = []
    for entry in report['differences']:
        if best not in (entry['a'], entry['b']):
            continue
        sign = 1 if entry['a'] == best else -1
        other = entry['b'] if sign == 1 else entry['a']
        low, high = sorted((sign * entry['low'], sign * entry['high']))
        verdict = 'is better than' if entry['distinguishable'] else 'cannot be told apart from'
        sentences.append(
            f'{best} {verdict} {other}: AP difference {sign * entry["difference"]:+.3f} '
            f'({low:+.3f} to {high:+.3f}).'
        )
    return sentences
