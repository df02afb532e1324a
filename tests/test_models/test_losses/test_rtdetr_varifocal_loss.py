import torch
from mmdet.registry import MODELS


def test_against_the_definition():
    loss = MODELS.build(dict(type='RTDETRVarifocalLoss', alpha=0.6, gamma=3.0, loss_weight=2.0))
    logits = torch.randn(4, 3, dtype=torch.float64)
    labels, iou = torch.tensor([0, 2, 3, 3]), torch.tensor([0.7, 0.2, 0.0, 0.0]).double()
    out = loss(logits, (labels, iou), reduction_override='none')
    p = logits.sigmoid()
    for i in range(4):
        for c in range(3):
            q = iou[i] if labels[i] == c else 0.0
            weight = q if labels[i] == c else 0.6 * p[i, c] ** 3
            expected = -weight * (q * p[i, c].log() + (1 - q) * (1 - p[i, c]).log())
            torch.testing.assert_close(out[i, c], 2 * expected)
    torch.testing.assert_close(loss(logits, (labels, iou), avg_factor=5), out.sum() / 5)


def test_no_gradient_through_the_weight():
    loss = MODELS.build(dict(type='RTDETRVarifocalLoss'))
    logits = torch.randn(5, 3, requires_grad=True)
    loss(logits, (torch.full((5,), 3), torch.zeros(5)), avg_factor=1).backward()
    p = logits.detach().sigmoid()
    torch.testing.assert_close(logits.grad, 0.75 * p**2 * p)
