from .conv_blocks import ConvNormAct, CSPRepLayer, RepVGGBlock
from .deformable_attention import DeformableAttention, deformable_attention
from .denoising import DenoisingQueries, make_denoising_queries
from .reparam import Reparameterizable, fold_bn, switch_to_deploy
from .rtdetr_decoder import MLP, RTDETRDecoder, RTDETRDecoderLayer
from .transformer_encoder import TransformerEncoder, sincos_position_embedding_2d

__all__ = [
    'MLP',
    'CSPRepLayer',
    'ConvNormAct',
    'DeformableAttention',
    'DenoisingQueries',
    'RTDETRDecoder',
    'RTDETRDecoderLayer',
    'RepVGGBlock',
    'Reparameterizable',
    'TransformerEncoder',
    'deformable_attention',
    'fold_bn',
    'make_denoising_queries',
    'sincos_position_embedding_2d',
    'switch_to_deploy',
]
