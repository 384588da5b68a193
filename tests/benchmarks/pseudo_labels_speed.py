"""Time of pseudo-labels beside a loop over thresholds and patches, and beside a plain sort, in the same run.

    python tests/benchmarks/pseudo_labels_speed.py
    python tests/benchmarks/pseudo_labels_speed.py --device cuda

The maps are blobs with smooth logits, biased by region. The loop is NumPy, on the CPU, with 20 thresholds, the best IoU
of each patch, smoothing 1; the sort ranks every logit of the maps on the device. All are called in turn, again and
again, and the least time of each counts, with the median beside it: CPU time with one thread, which other programs
change least, else elapsed time.
On a GPU more maps at once show what a batch gains.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from prngeo.refine.pseudo_labels import pseudo_labels

THRESHOLDS = np.linspace(0.0, 0.95, 20)
CASES = ((1, 512, 64), (1, 1500, 128))
CUDA_CASES = (*CASES, (16, 512, 64))


def example(size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, truth and known of a map, (size, size): blobs on 15 % of it, blurred, noisy, and with regional bias."""
    rng = np.random.default_rng(seed)

    def smooth(sigma: float) -> np.ndarray:
        field = gaussian_filter(rng.normal(size=(size, size)), sigma)
        return field / field.std()

    blobs = smooth(8)
    truth = blobs > np.quantile(blobs, 0.85)
    logits = 12 * (gaussian_filter(truth.astype(float), 3) - 0.4) + 1.5 * smooth(2) + 1.5 * smooth(60)
    return logits.astype(np.float32), truth, np.ones_like(truth)


def loop(logits: np.ndarray, truth: np.ndarray, known: np.ndarray, patch: int) -> np.ndarray:
    """The best of 20 thresholds of every patch of a map, one by one."""
    probability = 1 / (1 + np.exp(-logits))
    labels = np.zeros_like(truth)
    for row in range(0, logits.shape[0], patch):
        for column in range(0, logits.shape[1], patch):
            place = slice(row, row + patch), slice(column, column + patch)
            scores, positive = probability[place][known[place]], truth[place][known[place]]
            best = -1.0
            for threshold in THRESHOLDS:
                chosen = scores >= threshold
                iou = ((chosen & positive).sum() + 1) / ((chosen | positive).sum() + 1)
                if iou > best:
                    best, labels[place] = iou, probability[place] >= threshold
    return labels


def ranked(logits: Tensor, patch: int) -> Tensor:
    """All logits of every patch in order, as an exact method by plain sorting needs them at the least."""
    tiles = logits.unfold(1, patch, patch).unfold(2, patch, patch).flatten(3)
    return tiles.argsort(-1)


def times(calls: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    """Milliseconds of every call, in turn."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            for _ in range(1 if name == "loop" else 5):
                started = clock()
                call()
                if device != "cpu":
                    torch.cuda.synchronize()
                if number:  # the first round warms up
                    found[name].append(1000 * (clock() - started))
    return found


def row(maps: int, size: int, patch: int, device: str, rounds: int) -> str:
    parts = [np.stack(part) for part in zip(*(example(size, seed) for seed in range(maps)), strict=True)]
    logits, truth, known = (torch.from_numpy(part).to(device) for part in parts)
    found = times(
        {
            "loop": lambda: [loop(*one, patch) for one in zip(*parts, strict=True)],
            "sort": lambda: ranked(logits, patch),
            "per_patch": lambda: pseudo_labels(logits, truth, known, patch, joint=False),
            "joint": lambda: pseudo_labels(logits, truth, known, patch, joint=True),
        },
        rounds,
        device,
    )
    least = {name: min(values) for name, values in found.items()}
    cells = [f"{maps} x {size} px, {patch} px"]
    cells += [f"{least[name]:.2f} ({np.median(values):.2f})" for name, values in found.items()]
    cells += [f"{least[other] / least[name]:.1f}" for name in ("per_patch", "joint") for other in ("loop", "sort")]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="where prngeo and the sort run: cpu, cuda, cuda:1")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch on the CPU, one after another")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    for threads in given.threads if given.device == "cpu" else given.threads[:1]:
        torch.set_num_threads(threads)
        name = f"{threads} thread(s)" if given.device == "cpu" else torch.cuda.get_device_name(given.device)
        print(f"{name}; ms, least (median); how many times less than the loop and the sort\n")
        print("| maps, patches | loop | sort | per_patch | joint | per_patch: loop | sort | joint: loop | sort |")
        print("|---|---|---|---|---|---|---|---|---|")
        for case in CASES if given.device == "cpu" else CUDA_CASES:
            print(row(*case, given.device, given.rounds), flush=True)
        print()


if __name__ == "__main__":
    main()
