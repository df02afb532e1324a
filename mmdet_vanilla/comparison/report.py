"""Everything that is there to be looked at: plots and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.structures import InstanceData

from mmdet_vanilla.utils.atomic import write_text

from .columns import Column
from .dataset import Split
from .page import Gallery, make_page
from .pictures import side_by_side, spread
from .plots import (
    plot_ap_latency,
    plot_costs,
    plot_curves,
    plot_latency,
    plot_per_class,
    plot_precision_recall,
    save_plots,
)

_SAMPLES = 4
# Pictures in a page: with 20 kB each it stays below 15 MB in text form.
_MOST_PICTURES = 400


def write_report(
    report: Mapping,
    columns: Sequence[Column],
    split: Split | None,
    detections: Mapping[str, Mapping[int, InstanceData]],
    out: Path,
    score_thr: float,
) -> None:
    """Writes ``plots/*.png``, ``plots/*.svg`` and ``index.html``.

    Args:
        report: Content of ``compare.json``.
        columns: Of the table.
        split: The data, if any.
        detections: Confident ones, by name of the detector and id of the image.
        out: The folder.
        score_thr: Least score of a drawn detection, for the captions.
    """
    rows = report['rows']
    classes = list(split.classes) if split else []
    training = report['training']
    in_iterations = 'iterations' in (report['settings']['train'] or '')
    figures = dict(
        ap_latency=plot_ap_latency(rows),
        latency=plot_latency(rows),
        costs=plot_costs(rows),
        precision_recall=plot_precision_recall(report['precision_recall']),
        per_class=plot_per_class(rows, classes),
        learning_curves=plot_curves(
            {name: entry['curve'] for name, entry in training.items()},
            'iterations' if in_iterations else 'seconds',
        ),
    )
    plots = save_plots(figures, out / 'plots')
    page = make_page(report, columns, plots, _galleries(report, split, detections, score_thr))
    write_text(out / 'index.html', page)


def _galleries(
    report: Mapping,
    split: Split | None,
    detections: Mapping[str, Mapping[int, InstanceData]],
    score_thr: float,
) -> list[Gallery]:
    if not split or not detections:
        return []
    most = max(1, _MOST_PICTURES // (len(detections) + 1) // 2)
    names = {image['id']: image['file_name'] for image in split.content['images']}
    samples = [
        (names[image_id], side_by_side(split, image_id, detections))
        for image_id in spread(list(names), min(_SAMPLES, most))
    ]
    galleries = [Gallery(f'Sample images, scores from {score_thr:g}', samples)]
    worst = []
    for entry in report.get('disagreements', ())[:most]:
        title = (
            f'{names[entry["image_id"]]}: {entry["number"]} detections differ between '
            f'{entry["a"]} and {entry["b"]}'
        )
        worst.append((title, side_by_side(split, entry['image_id'], detections)))
    if worst:
        galleries.append(Gallery(f'Worst disagreements, scores from {score_thr:g}', worst))
    return galleries
