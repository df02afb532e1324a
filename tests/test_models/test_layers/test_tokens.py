import pytest
import torch
from torch import nn

from mmdet_vanilla.models.layers.transformer_encoder import tokens_of


@pytest.mark.parametrize('batch_size', [1, 2])
def test_gradients_through_batch_normalisation(batch_size):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8).double()
    x = torch.randn(batch_size, 8, 5, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(35, 8, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: (tokens_of(norm(x)) * weight).sum(), x)
    torch.testing.assert_close(tokens_of(x)[0, 8], x[0, :, 1, 1])
