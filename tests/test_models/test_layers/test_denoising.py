import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_vanilla.models.layers.denoising import box_cxcywh_to_xyxy, make_denoising_queries


def objects(counts, num_classes=5):
    labels = [torch.randint(num_classes, (n,)) for n in counts]
    boxes = [
        torch.cat([torch.rand(n, 2) * 0.4 + 0.3, torch.rand(n, 2) * 0.2 + 0.05], 1) for n in counts
    ]
    return labels, boxes


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    num_denoising=st.integers(1, 40),
)
def test_structure(counts, num_denoising):
    labels, boxes = objects(counts)
    dn = make_denoising_queries(labels, boxes, 5, num_queries=7, num_denoising=num_denoising)
    largest = max(counts)
    assert dn.num_groups == max(1, num_denoising // largest)
    total = 2 * largest * dn.num_groups
    assert dn.labels.shape == (len(counts), total) and dn.boxes.shape == (len(counts), total, 4)

    # Every object has one positive copy in every group, at the place that the docstring states.
    expected, first = [], 0
    for image, count in enumerate(counts):
        for group in range(dn.num_groups):
            start = image * total + group * 2 * largest
            expected += [(start + j, first + j) for j in range(count)]
        first += count
    pairs = list(zip(dn.positive.tolist(), dn.target.tolist()))
    assert sorted(pairs) == sorted(expected)

    # What is no object keeps the label of none.
    for image, count in enumerate(counts):
        by_group = dn.labels[image].reshape(dn.num_groups, 2, largest)
        assert (by_group[:, :, count:] == 5).all() and (by_group[:, :, :count] < 5).all()

    blocked = dn.attn_mask
    assert blocked.shape == (total + 7, total + 7)
    assert blocked[total:, :total].all() and not blocked[:, total:].any()
    size = 2 * largest
    for i in range(dn.num_groups):
        for j in range(dn.num_groups):
            block = blocked[i * size : (i + 1) * size, j * size : (j + 1) * size]
            assert block.all() if i != j else not block.any()


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.1, 1.0), seed=st.integers(0, 1000))
def test_noise_is_within_the_published_ranges(scale, seed):
    torch.manual_seed(seed)
    labels, boxes = objects([6])
    dn = make_denoising_queries(labels, boxes, 5, 7, num_denoising=60, box_noise_scale=scale)
    noised = box_cxcywh_to_xyxy(dn.boxes[0].reshape(dn.num_groups, 2, 6, 4))
    original = box_cxcywh_to_xyxy(boxes[0])
    half_size = boxes[0][:, 2:].repeat(1, 2) / 2
    shift = (noised - original).abs() / half_size / scale
    inside = (noised > 0) & (noised < 1)  # the others were clipped
    tolerance = 1e-3
    assert (shift[:, 0] <= 1 + tolerance).all()
    assert (shift[:, 1] <= 2 + tolerance).all()
    assert (shift[:, 1][inside[:, 1]] >= 1 - tolerance).all()


def test_edges_move_either_way_by_evenly_spread_shares():
    """0..1 of half a side for positive copies, 1..2 for negative ones; in and out alike."""
    labels = [torch.tensor([2])]
    boxes = [torch.tensor([[0.5, 0.5, 0.2, 0.1]])]
    dn = make_denoising_queries(labels, boxes, 5, 7, num_denoising=4000, box_noise_scale=0.5)
    noised = box_cxcywh_to_xyxy(dn.boxes[0].reshape(4000, 2, 4))
    half_size = torch.tensor([0.1, 0.05, 0.1, 0.05]) * 0.5
    shift = (noised - box_cxcywh_to_xyxy(boxes[0])[0]) / half_size
    for copy, low in enumerate((0.0, 1.0)):
        shares = shift[:, copy].abs().sort(dim=0).values
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            row = min(int(share * 4000), 3999)
            torch.testing.assert_close(
                shares[row], torch.full((4,), low + share), atol=0.04, rtol=0
            )
        up = (shift[:, copy] > 0).float()
        torch.testing.assert_close(up.mean(0), torch.full((4,), 0.5), atol=0.04, rtol=0)
        # Every edge has a sign of its own.
        for other in (1, 2, 3):
            assert abs((up[:, 0] == up[:, other]).float().mean() - 0.5) < 0.04


def test_label_noise():
    labels, boxes = objects([50], num_classes=1000)
    dn = make_denoising_queries(labels, boxes, 1000, 7, num_denoising=5000, label_noise_ratio=0.5)
    changed = (dn.labels.reshape(-1, 50) != labels[0]).float().mean().item()
    assert abs(changed - 0.25) < 0.02
    dn = make_denoising_queries(labels, boxes, 1000, 7, label_noise_ratio=0, box_noise_scale=0)
    assert (dn.labels.reshape(-1, 50) == labels[0]).all()
    torch.testing.assert_close(
        dn.boxes.reshape(-1, 50, 4), boxes[0].expand(dn.labels.numel() // 50, -1, -1)
    )


def test_nothing_to_denoise():
    assert make_denoising_queries(*objects([0, 0]), 5, 7) is None
    assert make_denoising_queries(*objects([3]), 5, 7, num_denoising=0) is None
