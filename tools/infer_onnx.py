"""Detect objects with an exported model: needs numpy, OpenCV and ONNX Runtime, and nothing else.

Everything about the model is read from the file itself, which tools/deploy.py has made. This script
can be copied to where the model runs.

Example:
    python infer_onnx.py end2end.onnx street.jpg --out-dir outputs
"""

import argparse
import colorsys
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime as ort

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm')


class InferenceError(Exception):
    """An input or a model that cannot be used; the message says why."""


class Detections(NamedTuple):
    """Objects in one image, best first."""

    boxes: np.ndarray  # (K, 4) x1, y1, x2, y2 in pixels of the image
    scores: np.ndarray  # (K,) 0..1
    labels: np.ndarray  # (K,) indices into names


class OnnxDetector:
    """An exported detector.

    Args:
        path: File that tools/deploy.py has made.
        threads: Threads of an operator; 0 leaves it to the runtime.

    Raises:
        InferenceError: If the file cannot be loaded or says too little about itself.
    """

    def __init__(self, path: str, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(
                str(path), options, providers=ort.get_available_providers()
            )
        except Exception as error:  # its exceptions share no base class
            raise InferenceError(f'cannot load {path}: {error}') from None
        meta = self.session.get_modelmeta().custom_metadata_map
        missing = {'names', 'input_size', 'mean', 'std', 'channel_order'} - set(meta)
        if missing:
            raise InferenceError(
                f'{path} says nothing about its {", ".join(sorted(missing))}: export it with '
                'tools/deploy.py.'
            )
        self.names = json.loads(meta['names'])
        self.input_size = tuple(json.loads(meta['input_size']))  # height, width
        self.keep_ratio = json.loads(meta.get('keep_ratio', 'false'))
        self.divisor = json.loads(meta.get('size_divisor', '1'))
        self.mean = np.float32(json.loads(meta['mean']))
        self.std = np.float32(json.loads(meta['std']))
        self.to_rgb = meta['channel_order'] == 'RGB'

    def preprocess(self, image: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
        """Resizes, normalises and pads an image.

        Args:
            image: (H, W, 3) uint8, blue first.

        Returns:
            Input (1, 3, H, W) float32, and the factors of width and height.
        """
        height, width = self.input_size
        if self.keep_ratio:
            factor = min(
                max(height, width) / max(image.shape[:2]), min(height, width) / min(image.shape[:2])
            )
            height, width = (int(side * factor + 0.5) for side in image.shape[:2])
        scale = (width / image.shape[1], height / image.shape[0])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        if self.to_rgb:
            image = image[..., ::-1]
        image = (image.astype(np.float32) - self.mean) / self.std
        bottom, right = (-side % self.divisor for side in (height, width))
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)))
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None]), scale

    def __call__(self, image: np.ndarray, score_thr: float = 0.0) -> Detections:
        """Detects objects.

        Args:
            image: (H, W, 3) uint8, blue first.
            score_thr: Least score of a detection.

        Returns:
            The detections.
        """
        inputs, scale = self.preprocess(image)
        dets, labels = self.session.run(['dets', 'labels'], {'input': inputs})
        dets, labels = dets[0], labels[0]
        keep = dets[:, 4] >= score_thr
        dets, labels = dets[keep], labels[keep]
        boxes = dets[:, :4] / np.float32([*scale, *scale])
        return Detections(boxes, dets[:, 4], labels)


def draw(image: np.ndarray, found: Detections, names: list[str]) -> np.ndarray:
    """A copy of an image with boxes and labels."""
    image = image.copy()
    thickness = max(1, round(max(image.shape) / 400))
    scale = max(image.shape) / 1200
    for box, score, label in zip(found.boxes, found.scores, found.labels):
        # Hues a golden ratio apart stay apart however many classes there are.
        color = colorsys.hsv_to_rgb(label * 0.618 % 1, 0.8, 0.9)
        color = tuple(int(255 * channel) for channel in color)
        x1, y1, x2, y2 = (int(round(float(value))) for value in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), color, thickness)
        # OpenCV's fonts know ASCII only.
        name = names[label] if names[label].isascii() else f'#{label}'
        text = f'{name} {score:.2f}'
        (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        top = max(y1, height + base)
        cv2.rectangle(image, (x1, top - height - base), (x1 + width, top), color, cv2.FILLED)
        cv2.putText(
            image,
            text,
            (x1, top - base),
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            (255, 255, 255),
            thickness,
            cv2.LINE_AA,
        )
    return image


def read_image(path: Path) -> np.ndarray:
    # Not imread, which knows no paths beyond ASCII on Windows.
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InferenceError(f'cannot read the image {path}.')
    return image


def list_images(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise InferenceError(f'no image, folder or video at {path}.')
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGES)
        if not found:
            raise InferenceError(f'no image in {path} ({", ".join(IMAGES)}).')
        yield from found
    else:
        yield path


def run_video(detector: OnnxDetector, path: Path, out_dir: Path, score_thr: float) -> None:
    video = cv2.VideoCapture(str(path))
    size = tuple(
        int(video.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    ok, frame = video.read()
    if not ok:
        raise InferenceError(f'cannot read the video {path}.')
    target = out_dir / f'{path.stem}.mp4'
    rate = video.get(cv2.CAP_PROP_FPS) or 25
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*'mp4v'), rate, size)
    frames = 0
    while ok:
        writer.write(draw(frame, detector(frame, score_thr), detector.names))
        frames += 1
        ok, frame = video.read()
    writer.release()
    print(f'{path}: {frames} frames -> {target}')


def run_images(detector: OnnxDetector, path: Path, out_dir: Path, score_thr: float) -> None:
    for file in list_images(path):
        image = read_image(file)
        found = detector(image, score_thr)
        target = out_dir / f'{file.stem}.jpg'
        cv2.imencode('.jpg', draw(image, found, detector.names))[1].tofile(target)
        content = [
            dict(box=box.tolist(), score=float(score), label=detector.names[label])
            for box, score, label in zip(*found)
        ]
        target.with_suffix('.json').write_text(
            json.dumps(content, ensure_ascii=False, indent=1), encoding='utf-8'
        )
        print(f'{file}: {len(content)} objects -> {target}')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', help='.onnx file that tools/deploy.py has made')
    parser.add_argument('input', type=Path, help='image, folder of images, or video')
    parser.add_argument('--out-dir', type=Path, default=Path('outputs'), help='folder of results')
    parser.add_argument('--score-thr', type=float, default=0.4, help='least score to keep')
    parser.add_argument('--threads', type=int, default=0, help='0 leaves it to the runtime')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        detector = OnnxDetector(args.model, args.threads)
        args.out_dir.mkdir(parents=True, exist_ok=True)
        run = run_video if args.input.suffix.lower() in VIDEOS else run_images
        run(detector, args.input, args.out_dir, args.score_thr)
    except (InferenceError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    main()
