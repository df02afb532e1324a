import pytest
import torch

from mmdet_vanilla.models import TransformerEncoder, sincos_position_embedding_2d


def test_embedding_follows_the_order_of_the_tokens():
    height, width, channels = 3, 5, 16
    embedding = sincos_position_embedding_2d(height, width, channels).reshape(height, width, 16)
    assert torch.equal(embedding[:, 0, :8], embedding[:, 4, :8])  # rows: not of the column
    assert torch.equal(embedding[0, :, 8:], embedding[2, :, 8:])  # columns: not of the row
    torch.testing.assert_close(embedding[2, 3, 0], torch.tensor(2.0).sin())
    torch.testing.assert_close(embedding[2, 3, 4], torch.tensor(2.0).cos())
    torch.testing.assert_close(embedding[2, 3, 8], torch.tensor(3.0).sin())
    torch.testing.assert_close(embedding[2, 3, 12], torch.tensor(3.0).cos())


def test_float64_is_computed_in_float64():
    single = sincos_position_embedding_2d(20, 20, 64).double()
    double = sincos_position_embedding_2d(20, 20, 64, dtype=torch.float64)
    assert 1e-9 < (single - double).abs().max() < 1e-4


def test_channels_must_be_a_multiple_of_four():
    with pytest.raises(ValueError, match='6 channels'):
        sincos_position_embedding_2d(2, 2, 6)


def test_keeps_the_shape_of_the_map():
    encoder = TransformerEncoder(2, channels=16, num_heads=4, feedforward_channels=8)
    assert encoder(torch.rand(2, 16, 3, 5)).shape == (2, 16, 3, 5)
