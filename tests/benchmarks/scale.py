"""Time, memory and scratch space of predicting scenes of growing size within one budget.

    python tests/benchmarks/scale.py --sizes 4096 8192 --workers 1 2

One worker is the local engine, two are `--dask local:2`, whose budget is that of each process. The scenes are VRTs that
repeat a procedural town, mirrored so that streets go on, with a period that fits no chunk. Every row runs `prngeo
predict` in a process of its own: both targets, PRN and all vectors. Rows that were measured are kept in the working
folder: run it again to go on, or with --report to print what is there. With --small a network that was fitted to such
towns for some minutes takes the place of the embedded one, to see what all but the network takes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import psutil
import rasterio

SIDE = 1900
SIZES = (4096, 8192, 16384, 32768)
STEP = 0.25
"""Seconds between two looks at the memory and the scratch folder, which take time themselves."""


def mirrored_town(folder: Path, size: int) -> Path:
    """A scene of `size` pixels on a side that takes no more space than a small one."""
    from prngeo.synth import write_town

    source = folder / "mirrored.tif"
    if not source.exists():
        town = write_town(folder / "town.tif", size=SIDE, gsd=0.3, seed=7, overwrite=True).scene
        with rasterio.open(town) as file:
            image, profile = file.read(), file.profile
        image = np.concatenate([image, image[:, :, ::-1]], 2)
        image = np.concatenate([image, image[:, ::-1]], 1)
        profile |= {"height": 2 * SIDE, "width": 2 * SIDE, "blockxsize": 256, "blockysize": 256}
        with rasterio.open(source, "w", **profile) as file:
            file.write(image)
    path = folder / f"town_{size}.vrt"
    path.write_text(repeated(source.name, 2 * SIDE, size), encoding="utf-8")
    return path


def repeated(name: str, side: int, size: int) -> str:
    """A VRT of `size` pixels on a side that repeats an RGB file of `side` pixels beside it."""
    places = [
        (row, col, min(side, size - row), min(side, size - col))
        for row in range(0, size, side)
        for col in range(0, size, side)
    ]
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"><ColorInterp>{color}</ColorInterp>'
        + "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
            f'<SourceBand>{number}</SourceBand><SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
            f'<DstRect xOff="{col}" yOff="{row}" xSize="{width}" ySize="{height}"/></SimpleSource>'
            for row, col, height, width in places
        )
        + "</VRTRasterBand>"
        for number, color in enumerate(("Red", "Green", "Blue"), 1)
    )
    return (
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}"><SRS>EPSG:32631</SRS>'
        f"<GeoTransform>500000,0.3,0,5000000,0,-0.3</GeoTransform>{bands}</VRTDataset>"
    )


def small_model(folder: Path, steps: int = 2500) -> Path:
    """A bundle with the smallest network that finds most of such towns, and a random refiner."""
    if (folder / "card.json").exists():
        return folder
    import torch

    from prngeo.models.bundle import write_bundle
    from prngeo.models.card import Calibration, Card, Gate, NetworkCard, RefinerCard, TargetCard
    from prngeo.models.segmenter import IMAGENET_MEAN, IMAGENET_STD, Segmenter
    from prngeo.refine.network import FastRefiner
    from prngeo.synth import make_town

    torch.manual_seed(0)
    town = make_town(SIDE, 0.3, 7)
    image = torch.from_numpy(np.asarray(town.image)).float() / 255
    labels = torch.from_numpy(np.stack([town.masks[name] for name in ("roads", "buildings")])).float()
    network = Segmenter("linknet", "tu-mobilenetv3_small_050", 2)
    adam = torch.optim.Adam(network.parameters(), 3e-3)
    whole = torch.ones(2, 1, 128, 128)
    for _ in range(steps):
        places = torch.randint(0, SIDE - 128, (2, 2)).tolist()
        parts = [(slice(None), slice(row, row + 128), slice(col, col + 128)) for row, col in places]
        logits = network(torch.stack([image[part] for part in parts]), whole)
        truth = torch.stack([labels[part] for part in parts])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        found = network.eval()(image[None, :, :1024, :1024], torch.ones(1, 1, 1024, 1024)).sigmoid()[0]
    shares = labels.mean((1, 2)).tolist()
    thresholds = [float(one.flatten().quantile(1 - share)) for one, share in zip(found, shares, strict=True)]
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    refiner = FastRefiner(2, 3, width=4)
    torch.nn.init.normal_(refiner.head.weight, std=0.02)
    tensors |= {f"refiner.{key}": value for key, value in refiner.state_dict().items()}
    gate = Gate(enabled=True, base_iou=0.5, refined_iou=0.6, joint_oracle_iou=0.7, pixels=9)
    calibrations = [Calibration(threshold=min(max(value, 0.004), 0.996)) for value in thresholds]
    roads, buildings = (TargetCard(base=one, refined=one, gate=gate) for one in calibrations)
    card = Card(
        name="small",
        version="0",
        license="Apache-2.0",
        targets={"roads": roads, "buildings": buildings},
        gsd=(0.25, 1.25),
        network=NetworkCard(
            architecture="linknet",
            encoder="tu-mobilenetv3_small_050",
            mean=list(IMAGENET_MEAN),
            std=list(IMAGENET_STD),
        ),
        refiner=RefinerCard(width=4),
    )
    return write_bundle(folder, card, tensors).path


def measure(scene: Path, model: str | Path, budget: str, work: Path, workers: int = 1) -> dict[str, float]:
    """One prediction in a process of its own: what it took, children included; `largest` is the peak of one process."""
    out, scratch = work / "out", work / "scratch"
    shutil.rmtree(out, ignore_errors=True)
    scratch.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "prngeo", "predict", str(scene), "-o", str(out), "-m", str(model)]
    command += ["--max-memory", budget, "--scratch", str(scratch), "--progress", "json"]
    command += ["--dask", f"local:{workers}"] if workers > 1 else []
    started, most, largest, spilled = time.monotonic(), 0, 0, 0
    with (work / "log.txt").open("w", encoding="utf-8") as log:
        run = subprocess.Popen(command, stderr=log)
        process = psutil.Process(run.pid)
        while run.poll() is None:
            sizes = resident(process)
            most, largest = max(most, sum(sizes)), max(largest, *sizes)
            spilled = max(spilled, bytes_in(scratch))
            time.sleep(STEP)
    seconds = time.monotonic() - started
    events = [json.loads(line) for line in (work / "log.txt").read_text("utf-8").splitlines() if line.startswith("{")]
    if run.returncode or not events or events[-1]["event"] != "result":
        raise SystemExit((work / "log.txt").read_text("utf-8")[-2000:])
    record = json.loads(next(out.glob("*.json")).read_text("utf-8"))
    left = bytes_in(scratch)
    shutil.rmtree(out)
    targets = record["targets"]
    return {
        "seconds": seconds,
        "peak": max(most, events[-1]["peak_memory"]),
        "largest": max(largest, events[-1]["peak_memory"]),
        "scratch": spilled,
        "scratch_left": left,
        "polygons": sum(target["polygons"] for target in targets.values()),
        "centerlines_km": targets["roads"]["length_m"] / 1000,
        **{f"seconds_{stage}": value for stage, value in record["timings"].items()},
    }


def resident(process: psutil.Process) -> list[int]:
    """Resident bytes of a process and of each of its children."""
    sizes = [0]
    try:
        for each in (process, *process.children(recursive=True)):
            sizes.append(each.memory_info().rss)
    except psutil.Error:  # it has just ended
        pass
    return sizes


def bytes_in(folder: Path) -> int:
    """Size of everything in a folder that other programs change."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except OSError:
                continue
    return total


def table(rows: dict[str, dict[str, float]]) -> str:
    """The measured rows as a Markdown table."""
    lines = [
        "| model | budget | workers | scene | wall | Mpx/s | segment, finish, vectorize | peak RSS | of one process "
        "| scratch | polygons | lines |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in rows.items():
        model, budget, workers, size = key.split()
        stages = ", ".join(f"{row[f'seconds_{name}']:.0f}" for name in ("segment_and_refine", "finish", "vectorize"))
        lines.append(
            f"| {model} | {budget} | {workers} | {size} x {size} | {row['seconds']:.0f} s | "
            f"{int(size) ** 2 / 1e6 / row['seconds']:.2f} | {stages} s | {row['peak'] / 2**30:.2f} GB | "
            f"{row['largest'] / 2**30:.2f} GB | {row['scratch'] / 2**30:.2f} GB | {row['polygons']:,.0f} | "
            f"{row['centerlines_km']:,.0f} km |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="pixels on a side")
    parser.add_argument("--workers", type=int, nargs="+", default=(1, 2), help="processes")
    parser.add_argument("--max-memory", default="2GB", help="of each process")
    parser.add_argument("--small", action="store_true", help="a small network in place of the embedded one")
    parser.add_argument("--work", type=Path, default=Path("runs/scale"), help="scenes and results")
    parser.add_argument("--report", action="store_true", help="only print what was measured")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    kept = given.work / "results.json"
    rows = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    for size, workers in () if given.report else product(given.sizes, given.workers):
        key = f"{'small' if given.small else 'prngeo-rgb'} {given.max_memory} {workers} {size}"
        if key not in rows:
            model = small_model(given.work / "small") if given.small else "prngeo-rgb"
            rows[key] = measure(mirrored_town(given.work, size), model, given.max_memory, given.work, workers)
            kept.write_text(json.dumps(rows, indent=1), encoding="utf-8")
            print(table(rows), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
