from .param_group_constructor import ParamGroupOptimWrapperConstructor

__all__ = ['ParamGroupOptimWrapperConstructor']
