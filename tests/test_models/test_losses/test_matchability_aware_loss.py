import torch
from mmdet.registry import MODELS


def test_against_the_definition():
    loss = MODELS.build(dict(type='MatchabilityAwareLoss', loss_weight=2.0))
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels, iou = torch.tensor([0, 2, 3, 3]), torch.tensor([0.7, 0.2, 0.0, 0.0]).double()
    out = loss(logits, (labels, iou), reduction_override='none')
    p = logits.sigmoid()
    for i in range(4):
        for c in range(3):
            if labels[i] == c:
                q = iou[i] ** 1.5
                expected = -q * p[i, c].log() - (1 - q) * (1 - p[i, c]).log()
            else:
                expected = -(p[i, c] ** 1.5) * (1 - p[i, c]).log()
            torch.testing.assert_close(out[i, c], 2 * expected)


def test_a_poor_box_still_counts():
    logits = torch.zeros(1, 1, requires_grad=True)
    target = torch.tensor([0]), torch.tensor([0.05])
    gradients = []
    for name in ('MatchabilityAwareLoss', 'RTDETRVarifocalLoss'):
        logits.grad = None
        MODELS.build(dict(type=name))(logits, target, avg_factor=1).backward()
        gradients.append(logits.grad.abs().item())
    assert gradients[0] > 10 * gradients[1]
