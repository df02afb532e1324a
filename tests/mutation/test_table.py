"""The table of deliberate faults fits the code as it is."""

import ast
from pathlib import Path

import pytest
from mutation.table import MUTATIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('mutation', MUTATIONS, ids=lambda m: f'{m.file}: {m.what}')
def test_every_edit_fits_once_and_names_a_fast_test(mutation):
    text = (ROOT / mutation.file).read_text(encoding='utf-8')
    assert text.count(mutation.old) == 1
    changed = text.replace(mutation.old, mutation.new)
    assert changed != text
    ast.parse(changed)
    path, _, name = mutation.node.partition('::')
    tree = ast.parse((ROOT / path).read_text(encoding='utf-8'))
    tests = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if name:
        test = tests[name.partition('[')[0]]
        assert not any('slow' in ast.unparse(mark) for mark in test.decorator_list)


def test_there_are_enough_and_the_page_lists_them():
    assert len(MUTATIONS) >= 80
    assert len({(m.file, m.old, m.new) for m in MUTATIONS}) == len(MUTATIONS)
    areas = {
        'VanillaNet',
        'RT-DETR: queries and losses',
        'Data',
        'Checkpoints',
        'Export',
        'Compare',
    }
    assert areas <= {m.area for m in MUTATIONS}
    page = (ROOT / 'docs' / 'mutations.md').read_text(encoding='utf-8')
    rows = [line for line in page.splitlines() if line.startswith('| ')]
    for mutation in MUTATIONS:
        cells = f'| {mutation.what} | `{mutation.file.removeprefix("mmdet_vanilla/")}` |'
        assert any(row.startswith(cells) for row in rows), f'run make mutate: {mutation.what}'
