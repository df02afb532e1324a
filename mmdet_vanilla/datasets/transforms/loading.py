"""Loading of images that are not what they should be.

The classes take the names of mmcv's and mmdet's own in mmdet's registry, so that every config,
``DetInferencer`` and ``inference_detector`` have them without a change.
"""

from __future__ import annotations

from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmdet.datasets.transforms import LoadImageFromNDArray as _LoadImageFromNDArray
from mmdet.registry import TRANSFORMS
from mmengine import fileio

from ...utils.images import ImageError, check_array, decode_image


@TRANSFORMS.register_module()
class LoadImageFromFile(_LoadImageFromFile):
    """mmcv's, but see :func:`mmdet_vanilla.utils.images.decode_image`.

    With ``color_type`` or ``imdecode_backend`` other than mmcv's defaults, mmcv decodes.

    Required keys: ``img_path``, optionally ``width`` and ``height`` as annotated. Added keys:
    ``img``, ``img_shape``, ``ori_shape``.
    """

    def transform(self, results: dict) -> dict | None:
        """Loads the image.

        Raises:
            ImageError: If it cannot be loaded; with ``ignore_empty`` the return value is ``None``
                instead.
        """
        if (self.color_type, self.imdecode_backend) != ('color', 'cv2') or self.file_client_args:
            return super().transform(results)
        path = results['img_path']
        try:
            try:
                content = fileio.get(path, backend_args=self.backend_args)
            except FileNotFoundError:
                raise ImageError(f'there is no image {path}.') from None
            except (OSError, ValueError) as error:
                raise ImageError(f'the image {path} cannot be read: {error}.') from None
            image = decode_image(content, path, (results.get('width'), results.get('height')))
        except ImageError:
            if self.ignore_empty:
                return None
            raise
        results['img'] = image.astype('float32') if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


@TRANSFORMS.register_module(force=True)
class LoadImageFromNDArray(_LoadImageFromNDArray):
    """mmdet's, of arrays that :func:`mmdet_vanilla.utils.images.check_array` lets pass."""

    def transform(self, results: dict) -> dict:
        """Takes the image.

        Raises:
            ImageError: If its shape, type or values are not those of an image.
        """
        results['img'] = check_array(results['img'])
        return super().transform(results)
