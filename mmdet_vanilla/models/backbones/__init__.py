from .resnet_vd import ResNetVd
from .vanillanet import VanillaNet

__all__ = ['ResNetVd', 'VanillaNet']
